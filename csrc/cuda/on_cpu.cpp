#include "cuda/on_cpu.h"

#include <ucontext.h>

#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace pyrec::on_cpu {
namespace {

constexpr std::size_t kStack = 64 << 10;
constexpr unsigned kWarp = 32;
constexpr unsigned char kPoison = 0xA5;  // what shared memory holds before it is written

enum class State { ready, at_warp, at_block, ended };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    State state = State::ready;
    std::uint64_t slot = 0;
};

// The block that runs; launches come one at a time.
std::mutex launching;
std::vector<Fiber> fibers;
std::vector<unsigned char> shared_memory;
ucontext_t scheduler;
Fiber* running = nullptr;
const std::function<void()>* body = nullptr;
std::exception_ptr thrown;
std::uint64_t order = 1;

void enter() {
    try {
        (*body)();
    } catch (...) {
        thrown = std::current_exception();
    }
    running->state = State::ended;
    swapcontext(&running->context, &scheduler);
}

void wait(State state) {
    Fiber* const self = running;
    self->state = state;
    swapcontext(&self->context, &scheduler);
}

void resume(unsigned number) {
    running = &fibers[number];
    threadIdx = dim3(number);
    swapcontext(&scheduler, &running->context);
}

// Lets go on who all have arrived; returns whether anybody may.
bool release(unsigned n) {
    unsigned ended = 0, at_block = 0;
    bool any = false;
    for (unsigned first = 0; first < n; first += kWarp) {
        const unsigned last = first + kWarp < n ? first + kWarp : n;
        unsigned here = 0;
        for (unsigned i = first; i < last; ++i) {
            here += fibers[i].state == State::at_warp;
            at_block += fibers[i].state == State::at_block;
            ended += fibers[i].state == State::ended;
        }
        if (here != last - first) continue;
        any = true;
        for (unsigned i = first; i < last; ++i) fibers[i].state = State::ready;
    }
    if (ended == n) return false;
    if (at_block == n) {
        any = true;
        for (unsigned i = 0; i < n; ++i) fibers[i].state = State::ready;
    }
    if (!any) throw std::logic_error("a barrier or shuffle that not all threads reach");
    return true;
}

void run_block(unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
        Fiber& fiber = fibers[i];
        fiber.state = State::ready;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStack;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    do {
        order = order * 6364136223846793005ull + 1442695040888963407ull;
        const auto start = static_cast<unsigned>(order >> 33) % n;
        const bool backwards = (order >> 32 & 1) != 0;
        for (unsigned i = 0; i < n; ++i) {
            const unsigned number = (start + (backwards ? n - i : i)) % n;
            if (fibers[number].state == State::ready) resume(number);
            if (thrown) return;
        }
    } while (release(n));
}

}  // namespace

void run(dim3 grid, unsigned block, std::size_t shared, const std::function<void()>& thread) {
    const std::lock_guard<std::mutex> lock(launching);
    if (block == 0 || block > 1024) throw std::logic_error("a block has 1 to 1024 threads");
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        throw std::logic_error("a grid has up to 2^31 - 1 blocks across, and up to 65,535 in y and in z");
    if (shared > 48 << 10) throw std::logic_error("a block has up to 48 KiB of shared memory");
    if (fibers.size() < block) fibers = std::vector<Fiber>(block);
    body = &thread;
    thrown = nullptr;
    gridDim = grid;
    blockDim = dim3(block);
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3(x, y, z);
                shared_memory.assign(shared + 16, kPoison);
                run_block(block);
                if (thrown) std::rethrow_exception(thrown);
            }
}

void* dynamic_shared() {
    const auto address = reinterpret_cast<std::uintptr_t>(shared_memory.data());
    return shared_memory.data() + (16 - address % 16) % 16;
}

void wait_for_block() { wait(State::at_block); }
void wait_for_warp() { wait(State::at_warp); }

void put(const void* value, std::size_t size) {
    running->slot = 0;
    std::memcpy(&running->slot, value, size);
}

void get(unsigned lane, void* value, std::size_t size) {
    const unsigned first = threadIdx.x / kWarp * kWarp, n = blockDim.x;
    std::memcpy(value, &fibers[first + lane < n ? first + lane : threadIdx.x].slot, size);
}

}  // namespace pyrec::on_cpu
