// SPDX-License-Identifier: Apache-2.0
// operator new and delete of kvferry-sim alone: a simulation makes and destroys some seven thousand
// small objects, and with the C library's allocator a quarter of its instructions went there.
//
// Free blocks of a size are a list, and each thread has its own. A page of the region has blocks of
// one size, so that a block's size follows from its address. Memory is given back when the process
// ends. Tools that watch memory see each block come from the C library and go there.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/mman.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {

constexpr std::size_t unit_bytes = 16;
constexpr std::size_t block_bytes_max = 1024;
constexpr std::size_t page_bytes = 4096;
/// Of addresses; what is not used takes no memory.
constexpr std::size_t region_bytes = std::size_t{16} << 30;

struct free_block {
    free_block* next;
};

constinit thread_local std::array<free_block*, block_bytes_max / unit_bytes + 1> lists{};
constinit std::atomic<std::byte*> region{nullptr};
constinit std::atomic<std::size_t> bytes_taken{0};
/// By page: its blocks' size in units.
constinit std::array<std::atomic<unsigned char>, region_bytes / page_bytes> sizes{};

constexpr std::size_t units_of(std::size_t bytes) {
    return (bytes + unit_bytes - 1) / unit_bytes;
}

std::size_t offset_of(const void* block) {
    return static_cast<std::size_t>(static_cast<const std::byte*>(block)
                                    - region.load(std::memory_order_relaxed));
}

void* from_library(std::size_t bytes) {
    if (auto* block = std::malloc(bytes == 0 ? 1 : bytes))
        return block;
    throw std::bad_alloc{};
}

/// Null: there is none, and never will be.
std::byte* reserve() {
    const auto* preloaded = std::getenv("LD_PRELOAD");
    if (preloaded && std::strstr(preloaded, "vgpreload_memcheck"))
        return nullptr;
    auto* const made = ::mmap(nullptr, region_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED)
        return nullptr;
    region.store(static_cast<std::byte*>(made), std::memory_order_relaxed);
    return static_cast<std::byte*>(made);
}

[[gnu::noinline]] void* take_new(std::size_t bytes) {
    static std::byte* const begin = reserve();
    const auto units = bytes == 0 ? 1 : units_of(bytes);
    if (!begin || bytes > block_bytes_max)
        return from_library(bytes);
    const auto page = bytes_taken.fetch_add(page_bytes, std::memory_order_relaxed);
    if (page >= region_bytes)
        return from_library(bytes);
    sizes[page / page_bytes].store(static_cast<unsigned char>(units), std::memory_order_relaxed);
    const auto size = units * unit_bytes;
    auto* const first = begin + page;
    for (auto at = (page_bytes / size - 1) * size; at > 0; at -= size)
        lists[units] = new (first + at) free_block{lists[units]};
    return first;
}

void give_back(void* block, std::size_t units) {
    lists[units] = new (block) free_block{lists[units]};
}

} // namespace

void* operator new(std::size_t bytes) {
    if (const auto units = units_of(bytes); bytes <= block_bytes_max && lists[units]) [[likely]] {
        auto* const block = lists[units];
        lists[units] = block->next;
        return block;
    }
    return take_new(bytes);
}

void operator delete(void* block) noexcept {
    if (!block)
        return;
    if (const auto at = offset_of(block); at < region_bytes) [[likely]]
        give_back(block, sizes[at / page_bytes].load(std::memory_order_relaxed));
    else
        std::free(block);
}

void operator delete(void* block, std::size_t) noexcept {
    operator delete(block);
}

#endif
