// SPDX-License-Identifier: Apache-2.0
// Plain UCX without kvferry: puts and active-message round trips between the same two processes, in
// the runtime's mode (one worker per side, peer error handling).
#pragma once

#include "messages/errors.hpp"
#include "tools/bench/schedule.hpp"
#include "transport/ucx/ucx_handles.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kvferry::bench {

using ucx_bytes = std::vector<std::uint8_t>;

/// What the measuring side must know about the passive side; sent over the socket.
struct raw_target {
    ucx_bytes address;
    /// Empty when the run measures no puts.
    ucx_bytes key;
    std::uint64_t base = 0;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(raw_target, address, key, base)
};

/// Owns one UCX worker. For one thread.
class raw_ucx {
public:
    /// `spin`: polls all the time. Otherwise it sleeps on UCX's descriptor when it has no work.
    static caf::expected<std::unique_ptr<raw_ucx>> make(bool spin);
    ~raw_ucx();

    // -- the passive side ------------------------------------------------------------------

    /// `base` may be null: then nothing can be put here.
    caf::expected<raw_target> describe(std::byte* base, std::uint64_t bytes);
    /// Answers messages and puts until `over()` returns true; it is called now and then.
    void serve(const std::function<bool()>& over);

    // -- the measuring side ----------------------------------------------------------------

    caf::error connect(const raw_target&);
    /// Median of `count` round trips of `message_bytes_of_raw_am` bytes.
    caf::expected<std::chrono::duration<double>> round_trip(int count);
    /// All pieces of these transfers, then one flush.
    caf::expected<std::chrono::duration<double>> put(const std::byte* source, const schedule&,
                                                     std::uint64_t first, std::uint64_t count);

private:
    raw_ucx() = default;
    static ucs_status_t on_message(void* self, const void* head, std::size_t head_bytes, void* data,
                                   std::size_t bytes, const ucp_am_recv_param_t*);
    caf::error open(const void* address);
    ucs_status_ptr_t send(const void* head, std::size_t bytes);
    /// Progresses until the request completes, then frees it.
    caf::error wait(ucs_status_ptr_t request);
    void progress_or_sleep();

    ucx_context_handle context_;
    ucx_worker_handle worker_;
    ucx_mapped_memory memory_;
    ucp_ep_h endpoint_ = nullptr;
    ucx_rkey_handle key_;
    std::uint64_t target_base_ = 0;
    bool spin_ = false;
    int event_fd_ = -1;
    /// Number of messages received; the passive side answers each one.
    std::uint64_t arrived_ = 0;
    std::uint64_t answered_ = 0;
    std::vector<std::byte> peer_address_;
};

} // namespace kvferry::bench
