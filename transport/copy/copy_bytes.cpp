// SPDX-License-Identifier: Apache-2.0
// Streaming stores on x86-64, a line at a time where there is AVX-512; elsewhere memcpy.
#include "transport/copy/copy_bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvferry {

namespace {

constexpr std::size_t line_bytes = 64;
/// How much of the next stretch is prefetched; the hardware prefetcher continues from there.
constexpr std::size_t fetched_bytes = 512;

} // namespace

void copy_through_cache(void* to, const void* from, std::size_t bytes,
                        const void* next_from) noexcept {
    if (next_from)
        for (std::size_t at = 0; at < std::min(fetched_bytes, bytes); at += line_bytes)
            __builtin_prefetch(static_cast<const char*>(next_from) + at);
    std::memcpy(to, from, bytes);
}

#if defined(__x86_64__)

namespace {

/// How far ahead of the copy the source is read.
constexpr std::size_t read_ahead_bytes = 2048;

/// The source from the read-ahead's view: the rest of this stretch, then the next one.
struct read_ahead {
    const char* source;
    const char* next;
    std::size_t bytes;
    std::size_t distance;

    void fetch(std::size_t at) const {
        const auto place = at + distance;
        if (place < bytes)
            _mm_prefetch(source + place, _MM_HINT_NTA);
        else if (next)
            _mm_prefetch(next + (place - bytes), _MM_HINT_NTA);
    }
};

// Both return the offset that they reached: the last whole line of an aligned target.

std::size_t stream_lines(char* to, const char* from, std::size_t at, std::size_t bytes,
                         const read_ahead& ahead) {
    for (; at + line_bytes <= bytes; at += line_bytes) {
        ahead.fetch(at);
        const auto* line = reinterpret_cast<const __m128i*>(from + at);
        auto* out = reinterpret_cast<__m128i*>(to + at);
        const auto a = _mm_loadu_si128(line);
        const auto b = _mm_loadu_si128(line + 1);
        const auto c = _mm_loadu_si128(line + 2);
        const auto d = _mm_loadu_si128(line + 3);
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    return at;
}

__attribute__((target("avx512f"))) std::size_t stream_lines_512(char* to, const char* from,
                                                                std::size_t at, std::size_t bytes,
                                                                const read_ahead& ahead) {
    for (; at + line_bytes <= bytes; at += line_bytes) {
        ahead.fetch(at);
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + at), _mm512_loadu_si512(from + at));
    }
    return at;
}

} // namespace

void copy_past_cache(void* to, const void* from, std::size_t bytes,
                     const void* next_from) noexcept {
    static const auto stream =
        __builtin_cpu_supports("avx512f") ? &stream_lines_512 : &stream_lines;
    auto* target = static_cast<char*>(to);
    const auto* source = static_cast<const char*>(from);
    // Streaming stores must be aligned; the few bytes before and after them are copied normally.
    const auto begins = reinterpret_cast<std::uintptr_t>(target) % line_bytes;
    const auto before = std::min(bytes, (line_bytes - begins) % line_bytes);
    std::memcpy(target, source, before);
    const auto at = stream(
        target, source, before, bytes,
        {source, static_cast<const char*>(next_from), bytes, std::min(read_ahead_bytes, bytes)});
    std::memcpy(target + at, source + at, bytes - at);
}

void finish_past_cache() noexcept {
    _mm_sfence();
}

#else

void copy_past_cache(void* to, const void* from, std::size_t bytes, const void*) noexcept {
    std::memcpy(to, from, bytes);
}

void finish_past_cache() noexcept {}

#endif

} // namespace kvferry
