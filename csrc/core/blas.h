#pragma once

namespace pyrec {

// BLAS and LAPACK by function pointer (Fortran conventions, 32-bit integers): lent by SciPy, so
// that nothing is linked and one copy of the library runs in the process.
template <class T> struct Blas {
    void (*potrf)(char* uplo, int* n, T* a, int* lda, int* info);
    void (*potri)(char* uplo, int* n, T* a, int* lda, int* info);
    void (*syrk)(char* uplo, char* trans, int* n, int* k, T* alpha, T* a, int* lda, T* beta, T* c, int* ldc);
    void (*gemm)(char* transa, char* transb, int* m, int* n, int* k, T* alpha, T* a, int* lda, T* b, int* ldb,
                 T* beta, T* c, int* ldc);
    void (*trsm)(char* side, char* uplo, char* transa, char* diag, int* m, int* n, T* alpha, T* a, int* lda,
                 T* b, int* ldb);
};

}  // namespace pyrec
