// SPDX-License-Identifier: Apache-2.0
// UCX objects that free themselves. Each must go before the object that it was made from.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

namespace kvferry {

struct ucx_config_deleter {
    void operator()(ucp_config_t* x) const noexcept { ucp_config_release(x); }
};
using ucx_config_handle = std::unique_ptr<ucp_config_t, ucx_config_deleter>;

struct ucx_context_deleter {
    void operator()(ucp_context_h x) const noexcept { ucp_cleanup(x); }
};
using ucx_context_handle = std::unique_ptr<ucp_context, ucx_context_deleter>;

struct ucx_worker_deleter {
    void operator()(ucp_worker_h x) const noexcept { ucp_worker_destroy(x); }
};
using ucx_worker_handle = std::unique_ptr<ucp_worker, ucx_worker_deleter>;

struct ucx_rkey_deleter {
    void operator()(ucp_rkey_h x) const noexcept { ucp_rkey_destroy(x); }
};
using ucx_rkey_handle = std::unique_ptr<ucp_rkey, ucx_rkey_deleter>;

/// Memory registered with UCX. A class because freeing it needs the context.
class ucx_mapped_memory {
public:
    ucx_mapped_memory() = default;
    ucx_mapped_memory(ucp_context_h context, ucp_mem_h memory) noexcept
        : context_(context), memory_(memory) {}
    ucx_mapped_memory(ucx_mapped_memory&& other) noexcept
        : context_(other.context_), memory_(std::exchange(other.memory_, nullptr)) {}
    ucx_mapped_memory& operator=(ucx_mapped_memory&& other) noexcept {
        std::swap(context_, other.context_);
        std::swap(memory_, other.memory_);
        return *this;
    }
    ~ucx_mapped_memory() {
        if (memory_)
            ucp_mem_unmap(context_, memory_);
    }

    ucp_mem_h get() const noexcept { return memory_; }

private:
    ucp_context_h context_ = nullptr;
    ucp_mem_h memory_ = nullptr;
};

/// What one of UCX's print functions writes.
template <class Print>
std::string ucx_text(Print&& print) {
    char* text = nullptr;
    std::size_t bytes = 0;
    std::string result;
    if (std::FILE* stream = ::open_memstream(&text, &bytes)) {
        print(stream);
        std::fclose(stream);
        result.assign(text, bytes);
    }
    std::free(text);
    return result;
}

} // namespace kvferry
