"""The kernels over tensors of a GPU: compiled ones where the wheel has them, torch operations else."""
