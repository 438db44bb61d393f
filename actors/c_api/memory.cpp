// SPDX-License-Identifier: Apache-2.0
// Cache memory that kvferry allocates for a host.
#include "actors/c_api/objects.hpp"
#include "actors/c_api/sized.hpp"
#include "cuda/device/device_pool.hpp"

#include <utility>

using namespace kvferry;
using namespace kvferry::c_api;

extern "C" {

int kvf_memory_new(const char* name, uint64_t bytes, uint32_t flags, kvf_memory** memory) {
    return guarded([&] {
        auto& result = target(memory, "memory");
        if (flags & ~std::uint32_t{KVF_MEMORY_PREFAULT})
            refuse(errc::unsupported, "flags is {}", flags);
        auto pool = std::make_shared<const memfd_pool>(value_of(
            memfd_pool::make_best(text_or_empty(name), bytes, (flags & KVF_MEMORY_PREFAULT) != 0)));
        auto made = std::make_shared<c_memory>();
        made->region.kind = KVF_HOST_SHARED;
        made->region.base = pool->base();
        made->region.bytes = pool->bytes();
        made->region.memfd = pool->fd();
        made->owner = std::move(pool);
        result = as_handle<kvf_memory>(memories().add(std::move(made)));
    });
}

int kvf_memory_new_on_device(int32_t device, uint64_t bytes, kvf_memory** memory) {
    return guarded([&] {
        auto& result = target(memory, "memory");
        if (bytes == 0)
            refuse(errc::invalid_argument, "bytes is 0");
        std::shared_ptr<device_pool> pool{value_of(make_device_pool(device, bytes))};
        auto made = std::make_shared<c_memory>();
        made->region.kind = KVF_CUDA;
        made->region.base = pool->base();
        made->region.bytes = pool->bytes();
        made->owner = std::move(pool);
        result = as_handle<kvf_memory>(memories().add(std::move(made)));
    });
}

int kvf_memory_region(kvf_memory* memory, kvf_region* region) {
    return guarded([&] { write(region, memories().find(memory)->region, "region"); });
}

int kvf_memory_free(kvf_memory* memory) {
    return guarded([&] {
        if (memory)
            memories().remove(memory);
    });
}

} // extern "C"
