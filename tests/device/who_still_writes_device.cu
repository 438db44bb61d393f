// SPDX-License-Identifier: Apache-2.0
// Does memory still change after its writer's process is proven gone? A child writes into this
// process's device memory through a CUDA IPC mapping and is killed in the middle; from the moment
// its pidfd is readable no byte may change. Builds with nvcc alone; exit status 1: bytes did
// change.
//   who_still_writes_device [rounds] [pool MiB]
#include "cuda/kernel/copy_kernel.hpp"
#include "cuda/kernel/flat_plan.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <numeric>
#include <poll.h>
#include <random>
#include <string>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

#define CHECKED(call)                                                                              \
    do {                                                                                           \
        const cudaError_t status_ = (call);                                                        \
        if (status_ != cudaSuccess) {                                                              \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status_));                  \
            std::exit(3);                                                                          \
        }                                                                                          \
    } while (false)

namespace {

/// Writes for about ten seconds: every word again and again, each time with a new value.
__global__ void write_for_long(unsigned long long* words, std::uint64_t count,
                               unsigned long long rounds) {
    const std::uint64_t first = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x;
    for (unsigned long long round = 1; round <= rounds; ++round)
        for (std::uint64_t i = first; i < count; i += std::uint64_t{gridDim.x} * blockDim.x)
            reinterpret_cast<volatile unsigned long long*>(words)[i] = round * count + i;
}

__global__ void number_words(unsigned long long* words, std::uint64_t count,
                             unsigned long long seed) {
    for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x; i < count;
         i += std::uint64_t{gridDim.x} * blockDim.x)
        words[i] = (i + seed) * 0x9e3779b97f4a7c15ull;
}

__global__ void count_different(const unsigned long long* a, const unsigned long long* b,
                                std::uint64_t count, unsigned long long* different) {
    unsigned long long mine = 0;
    for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x; i < count;
         i += std::uint64_t{gridDim.x} * blockDim.x)
        mine += a[i] != b[i];
    if (mine)
        atomicAdd(different, mine);
}

constexpr std::uint64_t piece_bytes = 4096;

/// The pieces are in a different order on each side.
copy_job shuffled(std::uint64_t bytes, std::uint64_t source, std::uint64_t target) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({0, 0, piece_bytes, 1, 0, 0});
    auto plan = std::make_shared<copy_plan>();
    plan_part part{0, 0, layout, {}};
    std::vector<std::uint32_t> to(bytes / piece_bytes);
    std::iota(to.begin(), to.end(), 0u);
    std::shuffle(to.begin(), to.end(), std::mt19937{1});
    for (std::uint32_t i = 0; i < to.size(); ++i)
        part.slots.push_back({i, to[i]});
    plan->parts.push_back(std::move(part));
    return {plan, {{source, piece_bytes, 0}}, {{target, piece_bytes, 0}}, {}};
}

struct writing {
    const char* name;
    const char* what;
};
constexpr writing ways[] = {
    {"once", "one copy through the mapping, then a normal end"},
    {"kernel", "killed inside one long kernel that writes"},
    {"launches", "killed inside a queue of copy kernel launches"},
    {"memcpy", "killed inside a queue of cudaMemcpyAsync"},
};

// -- the writer's process -------------------------------------------------------------------------

int write_into_parent(const std::string& way, std::uint64_t bytes) {
    int devices = 0;
    CHECKED(cudaGetDeviceCount(&devices));
    CHECKED(cudaSetDevice(0));
    cudaIpcMemHandle_t handle;
    if (::read(STDIN_FILENO, &handle, sizeof(handle)) != sizeof(handle))
        return 3;
    void* target = nullptr;
    CHECKED(cudaIpcOpenMemHandle(&target, handle, cudaIpcMemLazyEnablePeerAccess));
    std::byte* source = nullptr;
    CHECKED(cudaMalloc(&source, bytes));
    number_words<<<256, 256>>>(reinterpret_cast<unsigned long long*>(source), bytes / 8, 7);
    CHECKED(cudaDeviceSynchronize());
    const auto job = shuffled(bytes, reinterpret_cast<std::uint64_t>(source),
                              reinterpret_cast<std::uint64_t>(target));
    std::vector<std::uint64_t> words(measure(job).bytes() / 8 + 1);
    auto* host = reinterpret_cast<std::byte*>(words.data());
    std::byte* memory = nullptr;
    CHECKED(cudaMalloc(&memory, words.size() * 8));
    const auto plan = moved_to(flatten(job, host), host, memory);
    CHECKED(cudaMemcpy(memory, host, words.size() * 8, cudaMemcpyHostToDevice));
    if (way == "once") {
        CHECKED(launch_copy(plan, 0, plan.unit_count, {}, nullptr));
        CHECKED(cudaDeviceSynchronize());
        CHECKED(cudaIpcCloseMemHandle(target));
        return 0;
    }
    auto* out = static_cast<unsigned long long*>(target);
    if (way == "kernel")
        write_for_long<<<64, 1024>>>(out, bytes / 8, 10'000);
    for (int i = 0; way == "launches" && i < 500; ++i) {
        number_words<<<256, 256>>>(reinterpret_cast<unsigned long long*>(source), bytes / 8, i);
        CHECKED(launch_copy(plan, 0, plan.unit_count, {}, nullptr));
    }
    for (int i = 0; way == "memcpy" && i < 500; ++i) {
        number_words<<<256, 256>>>(reinterpret_cast<unsigned long long*>(source), bytes / 8, i);
        CHECKED(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, nullptr));
    }
    CHECKED(cudaGetLastError());
    const char started = 's';
    if (::write(STDOUT_FILENO, &started, 1) != 1)
        return 3;
    CHECKED(cudaDeviceSynchronize());
    return 4; // the parent should have killed it by now
}

// -- the owner of the memory ----------------------------------------------------------------------

struct child {
    pid_t pid = -1;
    int pidfd = -1;
    int to = -1;
    int from = -1;
};

child start_writer(const std::string& way, std::uint64_t bytes, const cudaIpcMemHandle_t& handle) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0)
        std::exit(3);
    child made;
    made.pid = ::fork();
    if (made.pid == 0) {
        ::dup2(in[0], STDIN_FILENO);
        ::dup2(out[1], STDOUT_FILENO);
        ::execl("/proc/self/exe", "who_still_writes_device", "writer", way.c_str(),
                std::to_string(bytes).c_str(), nullptr);
        ::_exit(3);
    }
    ::close(in[0]);
    ::close(out[1]);
    made.to = in[1];
    made.from = out[0];
    made.pidfd = static_cast<int>(::syscall(SYS_pidfd_open, made.pid, 0));
    if (::write(made.to, &handle, sizeof(handle)) != sizeof(handle))
        std::exit(3);
    return made;
}

int reap(child& x) {
    int status = 0;
    ::waitpid(x.pid, &status, 0);
    for (int fd : {x.pidfd, x.to, x.from})
        ::close(fd);
    return status;
}

struct owner {
    explicit owner(std::uint64_t bytes) : bytes(bytes) {
        int devices = 0;
        CHECKED(cudaGetDeviceCount(&devices));
        CHECKED(cudaSetDevice(devices > 1 ? 1 : 0));
        CHECKED(cudaMalloc(&pool, bytes));
        CHECKED(cudaMalloc(&before, bytes));
        CHECKED(cudaMalloc(&different, sizeof(*different)));
        CHECKED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CHECKED(cudaIpcGetMemHandle(&handle, pool));
    }
    void snapshot() {
        CHECKED(cudaMemcpyAsync(before, pool, bytes, cudaMemcpyDeviceToDevice, stream));
        CHECKED(cudaStreamSynchronize(stream));
    }
    /// Counts words that differ from the snapshot.
    unsigned long long changed() {
        unsigned long long result = 0;
        CHECKED(cudaMemsetAsync(different, 0, sizeof(*different), stream));
        count_different<<<264, 1024, 0, stream>>>(pool, before, bytes / 8, different);
        CHECKED(
            cudaMemcpyAsync(&result, different, sizeof(result), cudaMemcpyDeviceToHost, stream));
        CHECKED(cudaStreamSynchronize(stream));
        return result;
    }
    std::uint64_t bytes;
    unsigned long long *pool = nullptr, *before = nullptr, *different = nullptr;
    cudaStream_t stream = nullptr;
    cudaIpcMemHandle_t handle{};
};

bool copy_arrives(owner& x) {
    CHECKED(cudaMemset(x.pool, 0, x.bytes));
    CHECKED(cudaDeviceSynchronize());
    auto writer = start_writer("once", x.bytes, x.handle);
    const int status = reap(writer);
    std::vector<std::uint64_t> words(x.bytes / 8);
    CHECKED(cudaMemcpy(words.data(), x.pool, x.bytes, cudaMemcpyDeviceToHost));
    const auto job = shuffled(x.bytes, 0, 0);
    constexpr auto per_piece = piece_bytes / 8;
    bool right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (const auto& slots : job.plan->parts[0].slots)
        for (std::uint64_t i = 0; i < per_piece; ++i)
            right = right
                    && words[slots.target * per_piece + i]
                           == (slots.source * per_piece + i + 7) * 0x9e3779b97f4a7c15ull;
    std::printf("%-10s %s: %s\n", ways[0].name, ways[0].what,
                right ? "every byte arrived" : "WRONG");
    return right;
}

/// Counts words that changed after the pidfd was readable, over all rounds.
unsigned long long kill_in_the_middle(owner& x, const writing& way, int rounds) {
    unsigned long long after_proof = 0;
    int counted = 0;
    double slowest_ms = 0;
    for (int round = 0; round < rounds; ++round) {
        auto writer = start_writer(way.name, x.bytes, x.handle);
        char started = 0;
        if (::read(writer.from, &started, 1) != 1) {
            std::printf("%-10s the writer did not start\n", way.name);
            reap(writer);
            return 1;
        }
        std::this_thread::sleep_for(5ms + 3ms * round);
        x.snapshot();
        const bool writing_now = x.changed() > 0;
        const auto killed = steady::now();
        ::kill(writer.pid, SIGKILL);
        pollfd proof{writer.pidfd, POLLIN, 0};
        if (::poll(&proof, 1, 60'000) != 1) {
            std::printf("%-10s no proof within a minute\n", way.name);
            return 1;
        }
        const std::chrono::duration<double, std::milli> dying = steady::now() - killed;
        slowest_ms = std::max(slowest_ms, dying.count());
        x.snapshot();
        unsigned long long later = 0;
        for (auto wait : {0ms, 1ms, 10ms, 100ms, 300ms}) {
            std::this_thread::sleep_for(wait);
            later = std::max(later, x.changed());
        }
        after_proof += later;
        const bool was_killed = WIFSIGNALED(reap(writer));
        counted += writing_now && was_killed;
    }
    std::printf(
        "%-10s %s: %d rounds, %d of them killed while memory changed; words changed after the "
        "proof: %llu; proof came within %.1f ms\n",
        way.name, way.what, rounds, counted, after_proof, slowest_ms);
    if (counted == 0) {
        std::printf("%-10s nothing was being written when it was killed: no evidence\n", way.name);
        return 1;
    }
    return after_proof;
}

} // namespace

int main(int count, char** arguments) {
    if (count == 4 && std::strcmp(arguments[1], "writer") == 0)
        return write_into_parent(arguments[2], std::strtoull(arguments[3], nullptr, 10));
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("skipped: no device\n");
        return 77;
    }
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 10;
    const std::uint64_t bytes = (count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 256) << 20;
    std::printf("the writer on device 0, the memory on device %d, %llu MiB\n", devices > 1 ? 1 : 0,
                static_cast<unsigned long long>(bytes >> 20));
    std::fflush(stdout);
    owner memory{bytes};
    bool right = copy_arrives(memory);
    for (const auto& way : ways)
        if (std::strcmp(way.name, "once") != 0)
            right = kill_in_the_middle(memory, way, rounds) == 0 && right;
    return right ? 0 : 1;
}
