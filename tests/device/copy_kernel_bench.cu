// SPDX-License-Identifier: Apache-2.0
// GB/s of the copy kernel for shuffled pieces of 64 B to 1 MiB and 8 to 132 blocks, beside one
// cudaMemcpyAsync of the same total in the same run; what cutting it into launches and a digest
// cost; and how long small requests take from the host's call until the host knows their end.
// Builds with nvcc alone, on one line:
//   nvcc -O3 -std=c++20 -arch=sm_90 -I. -o copy_kernel_bench tests/device/copy_kernel_bench.cu
//        cuda/kernel/copy_kernel.cu cuda/kernel/flat_plan.cpp
//   ./copy_kernel_bench [total MiB] [repeats] [file.json] [bytes of a unit]
#include "cuda/kernel/copy_kernel.hpp"
#include "cuda/kernel/flat_plan.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

using namespace kvferry;

#define CHECKED(call)                                                                              \
    do {                                                                                           \
        const cudaError_t status_ = (call);                                                        \
        if (status_ != cudaSuccess) {                                                              \
            std::fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status_));                  \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (false)

namespace {

struct row {
    std::string route;
    std::uint64_t piece_bytes;
    std::uint32_t blocks;
    double gb_per_s;
    double percent_of_memcpy;
};

/// Writes its own index into each 8-byte word, so that a misplaced piece shows.
__global__ void number_words(std::uint64_t* words, std::uint64_t count) {
    for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x; i < count;
         i += std::uint64_t{gridDim.x} * blockDim.x)
        words[i] = i * 0x9e3779b97f4a7c15ull;
}

__global__ void count_wrong(const std::uint64_t* words, const device_pair* pairs,
                            std::uint64_t pieces, std::uint64_t words_per_piece,
                            unsigned long long* wrong) {
    for (std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x;
         i < pieces * words_per_piece; i += std::uint64_t{gridDim.x} * blockDim.x) {
        const auto pair = pairs[i / words_per_piece];
        const auto offset = i % words_per_piece;
        if (words[pair.target * words_per_piece + offset]
            != (pair.source * words_per_piece + offset) * 0x9e3779b97f4a7c15ull)
            atomicAdd(wrong, 1ull);
    }
}

copy_job shuffled(std::uint64_t total, std::uint64_t piece, std::uint64_t source,
                  std::uint64_t target) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({0, 0, piece, 1, 0, 0});
    auto plan = std::make_shared<copy_plan>();
    std::vector<std::uint32_t> from(total / piece), to(total / piece);
    std::iota(from.begin(), from.end(), 0u);
    std::iota(to.begin(), to.end(), 0u);
    std::mt19937 random{1};
    std::shuffle(from.begin(), from.end(), random);
    std::shuffle(to.begin(), to.end(), random);
    plan_part part{0, 0, layout, {}};
    for (std::size_t i = 0; i < from.size(); ++i)
        part.slots.push_back({from[i], to[i]});
    plan->parts.push_back(std::move(part));
    return {plan, {{source, piece, 0}}, {{target, piece, 0}}, {}};
}

/// Seconds of each of `repeats` calls, after one call to warm up.
template <class F>
std::vector<double> timed(int repeats, cudaStream_t stream, F&& call) {
    cudaEvent_t begin, end;
    CHECKED(cudaEventCreate(&begin));
    CHECKED(cudaEventCreate(&end));
    std::vector<double> result;
    for (int i = -1; i < repeats; ++i) {
        CHECKED(cudaEventRecord(begin, stream));
        call();
        CHECKED(cudaEventRecord(end, stream));
        CHECKED(cudaEventSynchronize(end));
        float milliseconds = 0;
        CHECKED(cudaEventElapsedTime(&milliseconds, begin, end));
        if (i >= 0)
            result.push_back(milliseconds / 1e3);
    }
    CHECKED(cudaEventDestroy(begin));
    CHECKED(cudaEventDestroy(end));
    return result;
}

double median(std::vector<double> x) {
    std::sort(x.begin(), x.end());
    return x[x.size() / 2];
}

std::uint32_t unit_bytes = unit_bytes_default;

/// A plan in device memory, with room for it on both sides.
struct plan_on_device {
    explicit plan_on_device(const copy_job& job) : bytes(measure(job).bytes()) {
        CHECKED(cudaHostAlloc(&host, bytes, cudaHostAllocPortable));
        CHECKED(cudaMalloc(&memory, bytes));
        on_host = flatten(job, host, unit_bytes);
        plan = moved_to(on_host, host, memory);
        CHECKED(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice));
    }
    ~plan_on_device() {
        CHECKED(cudaFreeHost(host));
        CHECKED(cudaFree(memory));
    }
    std::size_t bytes;
    std::byte* host = nullptr;
    std::byte* memory = nullptr;
    device_plan_view on_host, plan;
};

/// Copies everything in launches of at most this many bytes, one after the other.
void measure_chunks(std::uint64_t total, int repeats, std::uint64_t source, std::uint64_t target,
                    cudaStream_t stream) {
    const plan_on_device x{shuffled(total, 4096, source, target)};
    std::printf("pieces of 4 KiB in launches of");
    for (std::uint64_t chunk : {16u, 32u, 64u, 128u, 256u, 1024u}) {
        const double speed = total / 1e9 / median(timed(repeats, stream, [&] {
                                 for (std::uint64_t at = 0; at < x.plan.unit_count;) {
                                     const auto end = units_within(x.on_host, at, chunk << 20);
                                     CHECKED(launch_copy(x.plan, at, end - at, {}, stream));
                                     at = end;
                                 }
                             }));
        std::printf("  %llu MiB: %.1f", static_cast<unsigned long long>(chunk), speed);
    }
    std::printf("  GB/s\n");
}

/// Llama 3.1 70B in blocks of 16 tokens, laid out [token][head][128 x 2 bytes]: a rank with one KV
/// head writes its rows into a slot of a rank with two, or reads them from there.
copy_job heads_apart(std::uint64_t total, std::uint64_t source, std::uint64_t target,
                     std::uint64_t source_stride, std::uint64_t target_stride) {
    constexpr std::uint32_t buffers = 160; // K and V of 80 layers
    constexpr std::uint32_t tokens = 16;
    constexpr std::uint64_t row = 256;
    const auto slots = total / (buffers * tokens * std::max(source_stride, target_stride));
    auto job = shuffled(slots, 1, source, target);
    auto plan = std::make_shared<copy_plan>(*job.plan);
    auto layout = std::make_shared<copy_template>();
    for (std::uint32_t number = 0; number < buffers; ++number)
        layout->runs.push_back({number * tokens * source_stride, number * tokens * target_stride,
                                row, tokens, source_stride, target_stride});
    plan->parts.front().layout = layout;
    plan->bytes = slots * buffers * tokens * row;
    job.source_pools.front().slot_stride_bytes = buffers * tokens * source_stride;
    job.target_pools.front().slot_stride_bytes = buffers * tokens * target_stride;
    job.plan = plan;
    return job;
}

void measure_heads(std::uint64_t total, int repeats, std::uint64_t source, std::uint64_t target,
                   cudaStream_t stream) {
    for (auto [from, to] : {std::pair{256, 512}, {512, 256}}) {
        const auto job = heads_apart(total, source, target, from, to);
        const plan_on_device x{job};
        std::printf("rows of 256 B, %d B apart, to %d B apart:", from, to);
        for (std::uint32_t blocks : {16u, 48u, 96u})
            std::printf(
                "  %u blocks %.1f", blocks,
                x.plan.bytes / 1e9 / median(timed(repeats, stream, [&] {
                    CHECKED(launch_copy(x.plan, 0, x.plan.unit_count, {blocks, 1024}, stream));
                })));
        std::printf("  GB/s\n");
    }
}

/// What a digest costs: the copy without one, with one, and the digest alone, in turn.
void measure_sums(std::uint64_t total, int repeats, std::uint64_t source, std::uint64_t target,
                  cudaStream_t stream) {
    constexpr std::uint32_t blocks_max = 132;
    void* memory = nullptr;
    CHECKED(cudaHostAlloc(&memory, blocks_max * launch_sums::numbers_max * sizeof(std::uint64_t),
                          cudaHostAllocPortable));
    std::printf("copy, copy with a digest (%% of it), digest alone\n");
    for (std::uint64_t piece : {64u, 256u, 576u, 4096u, 65536u}) {
        const plan_on_device x{shuffled(total, piece, source, target)};
        const digest_share share{0, x.plan.pair_count};
        launch_sums sums{.of_blocks = static_cast<std::uint64_t*>(memory),
                         .first_pair = 0,
                         .shift = shift_of(share),
                         .numbers = static_cast<std::uint32_t>(share.part_numbers())};
        std::printf("%10llu B", static_cast<unsigned long long>(piece));
        for (std::uint32_t blocks : {16u, 32u, 48u, 96u}) {
            const auto speed = [&](const launch_sums& how) {
                return total / 1e9 / median(timed(repeats, stream, [&] {
                           CHECKED(launch_copy(x.plan, 0, x.plan.unit_count, {blocks, 1024}, stream,
                                               how));
                       }));
            };
            auto alone = sums;
            alone.writes = false;
            const double plain = speed({});
            const double with = speed(sums);
            std::printf("  %u blocks %.1f %.1f (%.1f) %.1f", blocks, plain, with,
                        100 * with / plain, speed(alone));
        }
        std::printf("  GB/s\n");
    }
    CHECKED(cudaFreeHost(memory));
}

/// Upload, launch, event and polling: the cost of a request without the protocol.
void measure_small(int repeats, std::uint64_t source, std::uint64_t target, cudaStream_t stream) {
    struct {
        std::uint64_t pieces, bytes;
    } const requests[] = {{1, 4096},   {1, 65536},   {16, 4096},
                          {256, 4096}, {1024, 4096}, {4096, 4096}};
    cudaEvent_t end;
    CHECKED(cudaEventCreateWithFlags(&end, cudaEventDisableTiming));
    for (const auto& request : requests) {
        const plan_on_device x{
            shuffled(request.pieces * request.bytes, request.bytes, source, target)};
        auto once = [&](auto&& launch) {
            const auto began = std::chrono::steady_clock::now();
            launch();
            CHECKED(cudaEventRecord(end, stream));
            while (cudaEventQuery(end) == cudaErrorNotReady) {
            }
            const std::chrono::duration<double, std::micro> took =
                std::chrono::steady_clock::now() - began;
            return took.count();
        };
        const bool is_short = x.bytes <= argument_plan_bytes_max;
        std::vector<double> uploaded, in_launch, known;
        for (int i = 0; i < 20 * repeats; ++i) {
            uploaded.push_back(once([&] {
                CHECKED(cudaMemcpyAsync(x.memory, x.host, x.bytes, cudaMemcpyHostToDevice, stream));
                CHECKED(launch_copy(x.plan, 0, x.plan.unit_count, {}, stream));
            }));
            known.push_back(
                once([&] { CHECKED(launch_copy(x.plan, 0, x.plan.unit_count, {}, stream)); }));
            if (is_short)
                in_launch.push_back(
                    once([&] { CHECKED(launch_copy_of_argument(x.on_host, {}, stream)); }));
        }
        std::printf("%5llu x %6llu B: %6.1f us with the plan uploaded, %6.1f there already",
                    static_cast<unsigned long long>(request.pieces),
                    static_cast<unsigned long long>(request.bytes), median(uploaded),
                    median(known));
        if (is_short)
            std::printf(", %6.1f in the launch", median(in_launch));
        std::printf("\n");
    }
    CHECKED(cudaEventDestroy(end));
}

/// Device 0 copies from its own memory to `target_device`'s.
void measure_route(const std::string& route, int target_device, std::uint64_t total, int repeats,
                   std::vector<row>& rows) {
    std::byte* source = nullptr;
    std::byte* target = nullptr;
    unsigned long long* wrong = nullptr;
    CHECKED(cudaSetDevice(target_device));
    CHECKED(cudaMalloc(&target, total));
    CHECKED(cudaMalloc(&wrong, sizeof(*wrong)));
    CHECKED(cudaSetDevice(0));
    CHECKED(cudaMalloc(&source, total));
    number_words<<<1024, 256>>>(reinterpret_cast<std::uint64_t*>(source), total / 8);
    CHECKED(cudaDeviceSynchronize());
    cudaStream_t stream;
    CHECKED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    std::printf("\n%s, %llu MiB, median of %d; memcpy = one cudaMemcpyAsync of the total, before "
                "each row\n",
                route.c_str(), static_cast<unsigned long long>(total >> 20), repeats);
    const std::uint32_t blocks[] = {8, 16, 32, 48, 64, 96, 132};
    std::printf("%10s %10s", "piece B", "memcpy");
    for (auto b : blocks)
        std::printf(" %7u bl", b);
    std::printf("   GB/s\n");
    for (std::uint64_t piece = 64; piece <= (1u << 20); piece *= 2) {
        const auto job = shuffled(total, piece, reinterpret_cast<std::uint64_t>(source),
                                  reinterpret_cast<std::uint64_t>(target));
        const auto bytes = measure(job).bytes();
        std::vector<std::uint64_t> words(bytes / 8 + 1);
        auto* host = reinterpret_cast<std::byte*>(words.data());
        std::byte* memory = nullptr;
        CHECKED(cudaMalloc(&memory, bytes));
        const auto plan = moved_to(flatten(job, host, unit_bytes), host, memory);
        CHECKED(cudaMemcpy(memory, host, bytes, cudaMemcpyHostToDevice));
        const double whole =
            total / 1e9 / median(timed(repeats, stream, [&] {
                CHECKED(cudaMemcpyAsync(target, source, total, cudaMemcpyDefault, stream));
            }));
        std::printf("%10llu %10.1f", static_cast<unsigned long long>(piece), whole);
        for (auto b : blocks) {
            CHECKED(cudaMemsetAsync(target, 0, total, stream));
            const double speed =
                total / 1e9 / median(timed(repeats, stream, [&] {
                    CHECKED(launch_copy(plan, 0, plan.unit_count, {b, 1024}, stream));
                }));
            std::printf(" %10.1f", speed);
            rows.push_back({route, piece, b, speed, 100 * speed / whole});
        }
        CHECKED(cudaSetDevice(target_device)); // checks how the target device sees the bytes
        device_pair* pairs = nullptr;
        CHECKED(cudaMalloc(&pairs, plan.pair_count * sizeof(device_pair)));
        CHECKED(cudaMemcpy(pairs, host + sizeof(device_band), plan.pair_count * sizeof(device_pair),
                           cudaMemcpyHostToDevice));
        CHECKED(cudaMemset(wrong, 0, sizeof(*wrong)));
        count_wrong<<<1024, 256>>>(reinterpret_cast<std::uint64_t*>(target), pairs, total / piece,
                                   piece / 8, wrong);
        unsigned long long wrong_words = 0;
        CHECKED(cudaMemcpy(&wrong_words, wrong, sizeof(wrong_words), cudaMemcpyDeviceToHost));
        CHECKED(cudaFree(pairs));
        CHECKED(cudaSetDevice(0));
        CHECKED(cudaFree(memory));
        std::printf("   %s\n", wrong_words == 0 ? "verified" : "WRONG BYTES");
        std::fflush(stdout);
        if (wrong_words != 0)
            std::exit(1);
    }
    measure_chunks(total, repeats, reinterpret_cast<std::uint64_t>(source),
                   reinterpret_cast<std::uint64_t>(target), stream);
    measure_heads(total, repeats, reinterpret_cast<std::uint64_t>(source),
                  reinterpret_cast<std::uint64_t>(target), stream);
    measure_sums(total, repeats, reinterpret_cast<std::uint64_t>(source),
                 reinterpret_cast<std::uint64_t>(target), stream);
    measure_small(repeats, reinterpret_cast<std::uint64_t>(source),
                  reinterpret_cast<std::uint64_t>(target), stream);
    CHECKED(cudaStreamDestroy(stream));
    CHECKED(cudaFree(source));
    CHECKED(cudaFree(target));
    CHECKED(cudaFree(wrong));
}

void write_json(const char* path, const std::vector<row>& rows, const char* device,
                std::uint64_t total) {
    std::FILE* file = std::fopen(path, "w");
    if (!file) {
        std::perror(path);
        std::exit(1);
    }
    std::fprintf(file, "{\"device\": \"%s\", \"total_bytes\": %llu, \"rows\": [", device,
                 static_cast<unsigned long long>(total));
    for (std::size_t i = 0; i < rows.size(); ++i)
        std::fprintf(
            file,
            "%s\n  {\"route\": \"%s\", \"piece_bytes\": %llu, \"blocks\": %u, \"gb_per_s\": %.2f, "
            "\"percent_of_memcpy\": %.2f}",
            i ? "," : "", rows[i].route.c_str(),
            static_cast<unsigned long long>(rows[i].piece_bytes), rows[i].blocks, rows[i].gb_per_s,
            rows[i].percent_of_memcpy);
    std::fprintf(file, "\n]}\n");
    std::fclose(file);
}

} // namespace

int main(int count, char** arguments) {
    const std::uint64_t total = (count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1024) << 20;
    const int repeats = count > 2 ? std::atoi(arguments[2]) : 10;
    if (count > 4)
        unit_bytes = static_cast<std::uint32_t>(std::atoi(arguments[4]));
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::printf("skipped: no device\n");
        return 77;
    }
    if (total == 0 || repeats < 1) {
        std::fprintf(stderr,
                     "usage: copy_kernel_bench [total MiB] [repeats] [file.json] [unit bytes]\n");
        return 2;
    }
    cudaDeviceProp properties{};
    CHECKED(cudaGetDeviceProperties(&properties, 0));
    std::printf("%d x %s, %d multiprocessors\n", devices, properties.name,
                properties.multiProcessorCount);
    std::vector<row> rows;
    measure_route("same device", 0, total, repeats, rows);
    int can = 0, back = 0;
    if (devices > 1) {
        CHECKED(cudaDeviceCanAccessPeer(&can, 0, 1));
        CHECKED(cudaDeviceCanAccessPeer(&back, 1, 0));
    }
    if (can && back) {
        CHECKED(cudaSetDevice(0));
        CHECKED(cudaDeviceEnablePeerAccess(1, 0));
        CHECKED(cudaSetDevice(1));
        CHECKED(cudaDeviceEnablePeerAccess(0, 0));
        measure_route("device 0 to device 1", 1, total, repeats, rows);
    } else {
        std::printf("\ndevice to device: skipped, %s\n",
                    devices > 1 ? "no peer access" : "one device");
    }
    if (count > 3 && *arguments[3])
        write_json(arguments[3], rows, properties.name, total);
    return 0;
}
