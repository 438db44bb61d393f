// SPDX-License-Identifier: Apache-2.0
// Cache memory that kvferry allocates for a host.
#include "actors/c_api/objects.hpp"
#include "actors/c_api/sized.hpp"

using namespace kvferry;
using namespace kvferry::c_api;

extern "C" {

int kvf_memory_new(const char* name, uint64_t bytes, uint32_t flags, kvf_memory** memory) {
    return guarded([&] {
        auto& result = target(memory, "memory");
        if (flags & ~std::uint32_t{KVF_MEMORY_PREFAULT})
            refuse(errc::unsupported, "flags is " + std::to_string(flags));
        auto pool = value_of(
            memfd_pool::make_best(text_or_empty(name), bytes, (flags & KVF_MEMORY_PREFAULT) != 0));
        auto made = std::make_shared<c_memory>();
        made->pool = std::make_shared<const memfd_pool>(std::move(pool));
        result = as_handle<kvf_memory>(memories().add(std::move(made)));
    });
}

int kvf_memory_region(kvf_memory* memory, kvf_region* region) {
    return guarded([&] {
        const auto found = memories().find(memory);
        kvf_region result{};
        result.kind = KVF_HOST_SHARED;
        result.base = found->pool->base();
        result.bytes = found->pool->bytes();
        result.memfd = found->pool->fd();
        write(region, result, "region");
    });
}

int kvf_memory_free(kvf_memory* memory) {
    return guarded([&] {
        if (memory)
            memories().remove(memory);
    });
}

} // extern "C"
