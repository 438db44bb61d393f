// SPDX-License-Identifier: Apache-2.0
// The writer: puts into the target's region and notes on the board what UCX tells it.
#include "roles.hpp"
#include "ucx_handles.hpp"

#include <algorithm>
#include <vector>

namespace experiment {
namespace {

constexpr std::size_t streams = 2; ///< puts in flight
constexpr unsigned am_id = 7;
constexpr std::size_t am_eager_bytes = 1024;
constexpr std::size_t am_rendezvous_bytes = 8 << 20;

class writer_role {
public:
    writer_role(board& shared, shared_memory& region)
        : board_(shared), desk_(shared.writer), region_(region), context_(make_context()),
          worker_(make_worker(context_.get())) {
        publish_address();
        wait_for(board_.target.ready);
        const auto& address = board_.target.worker_address;
        endpoint_ = make_endpoint(worker_.get(), {address.bytes.data(), address.size.load()},
                                  &writer_role::on_endpoint_error, this, board_.peer_errors);
        ucp_rkey_h rkey = nullptr;
        check_ucx(ucp_ep_rkey_unpack(endpoint_, board_.rkey.bytes.data(), &rkey), "rkey_unpack");
        rkey_.reset(rkey);
        for (auto& s : slots_)
            s = {this, false, std::vector<std::uint64_t>(region.size() / 8)};
        if (board_.flush_first && !flush(5s))
            throw std::runtime_error("the first flush did not complete");
        const auto text = lanes_of(endpoint_);
        std::copy_n(text.begin(), std::min(text.size(), desk_.lanes.size() - 1),
                    desk_.lanes.begin());
        desk_.ready.set(1);
    }

    ~writer_role() {
        if (endpoint_)
            close_by_force();
    }

    void run() {
        std::uint32_t current = 0;
        const auto end = now_ns() + std::chrono::nanoseconds(child_life_max).count();
        while (now_ns() < end) {
            if (const auto word = desk_.ordered.get(); word != current) {
                current = word;
                if (!begin(static_cast<order>(order_of(word))))
                    break;
                desk_.obeyed.set(word);
            }
            if (streaming_)
                fill_window();
            ucp_worker_progress(worker_.get());
        }
    }

private:
    struct slot {
        writer_role* owner = nullptr;
        bool busy = false;
        std::vector<std::uint64_t> source;
    };

    bool begin(order what) {
        streaming_ =
            what == order::stream || what == order::stream_messages || what == order::stream_eager;
        message_flags_ = what == order::stream_messages ? UCP_AM_SEND_FLAG_RNDV
                         : what == order::stream_eager  ? UCP_AM_SEND_FLAG_EAGER
                                                        : 0;
        switch (what) {
        case order::verify:
            verify();
            break;
        case order::am_eager:
            send_message(am_eager_bytes);
            break;
        case order::am_rendezvous:
            send_message(am_rendezvous_bytes);
            break;
        case order::close_endpoint:
            close_by_force();
            break;
        case order::quit:
            return false;
        default:
            break;
        }
        return true;
    }

    void publish_address() {
        ucp_address_t* address = nullptr;
        std::size_t size = 0;
        check_ucx(ucp_worker_get_address(worker_.get(), &address, &size), "get_address");
        desk_.worker_address.put(address, size);
        ucp_worker_release_address(worker_.get(), address);
    }

    void wait_for(const signal_word& word) {
        if (!word.wait_while(0, 5s))
            throw std::runtime_error("the target did not get ready");
    }

    /// Keeps two puts of the whole region in flight, each filled with its own number.
    void fill_window() {
        for (auto& s : slots_) {
            if (s.busy || board_.put_refused.happened() || !endpoint_)
                continue;
            std::ranges::fill(s.source, ++sequence_);
            put(s, s.source.size() * 8);
        }
    }

    void put(slot& s, std::size_t bytes) {
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
        param.cb.send = &writer_role::on_put;
        param.user_data = &s;
        s.busy = true;
        ++board_.puts_posted;
        void* request = nullptr;
        if (message_flags_ != 0) {
            param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
            param.flags = message_flags_;
            request = ucp_am_send_nbx(endpoint_, am_id, nullptr, 0, s.source.data(), bytes, &param);
        } else {
            request = ucp_put_nbx(endpoint_, s.source.data(), bytes, board_.region_address,
                                  rkey_.get(), &param);
        }
        if (UCS_PTR_IS_PTR(request)) {
            ++board_.open_requests;
            return;
        }
        s.busy = false;
        if (UCS_PTR_IS_ERR(request))
            board_.put_refused.note(UCS_PTR_STATUS(request));
        else
            ++board_.puts_ok;
    }

    static void on_put(void* request, ucs_status_t status, void* user) {
        auto& s = *static_cast<slot*>(user);
        auto& shared = s.owner->board_;
        s.busy = false;
        --shared.open_requests;
        if (status == UCS_OK)
            ++shared.puts_ok;
        else
            shared.put_failed.note(status);
        ucp_request_free(request);
    }

    static void on_endpoint_error(void* self, ucp_ep_h, ucs_status_t status) {
        // Only a note: the endpoint is closed later, outside of UCX's callback.
        static_cast<writer_role*>(self)->desk_.endpoint_error.note(status);
    }

    void send_message(std::size_t bytes) {
        message_.assign(bytes, std::byte{1});
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
        param.user_data = this;
        param.cb.send = [](void* request, ucs_status_t status, void* user) {
            static_cast<writer_role*>(user)->board_.am_done.note(status);
            --static_cast<writer_role*>(user)->board_.open_requests;
            ucp_request_free(request);
        };
        auto* request =
            ucp_am_send_nbx(endpoint_, am_id, "head", 4, message_.data(), bytes, &param);
        if (UCS_PTR_IS_PTR(request))
            ++board_.open_requests;
        else
            board_.am_done.note(UCS_PTR_RAW_STATUS(request));
    }

    /// False when it did not complete in time; its callback may still come later.
    bool flush(std::chrono::nanoseconds limit) {
        ucp_request_param_t param{};
        auto* request = ucp_ep_flush_nbx(endpoint_, &param);
        return finish(request, limit) == UCS_OK;
    }

    ucs_status_t finish(ucs_status_ptr_t request, std::chrono::nanoseconds limit) {
        if (!UCS_PTR_IS_PTR(request))
            return UCS_PTR_RAW_STATUS(request);
        const auto end = now_ns() + limit.count();
        while (ucp_request_check_status(request) == UCS_INPROGRESS && now_ns() < end)
            ucp_worker_progress(worker_.get());
        const auto status = ucp_request_check_status(request);
        ucp_request_free(request); // UCX keeps an unfinished one until it completes
        return status;
    }

    /// Short, middle and large puts; the region is looked at through this process's own mapping
    /// at the instant of local completion and again at the instant of the flush.
    void verify() {
        auto& s = slots_[0];
        const volatile std::uint64_t* seen = reinterpret_cast<const std::uint64_t*>(region_.data());
        for (int round = 0; round < 60; ++round) {
            const std::size_t words = std::array<std::size_t, 3>{1, 2048, 131072}[round % 3];
            std::fill_n(s.source.begin(), words, ++sequence_);
            put(s, words * 8);
            const auto end = now_ns() + 50'000'000;
            while (s.busy && now_ns() < end)
                ucp_worker_progress(worker_.get());
            if (s.busy)
                break;
            board_.visible_at_put += seen[words - 1] == sequence_ && seen[0] == sequence_;
            if (!flush(500ms))
                break;
            board_.visible_at_flush += seen[words - 1] == sequence_ && seen[0] == sequence_;
            board_.flushed.note(UCS_OK);
            ++board_.verify_rounds;
        }
    }

    void close_by_force() {
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
        param.flags = UCP_EP_CLOSE_FLAG_FORCE;
        auto* request = ucp_ep_close_nbx(endpoint_, &param);
        desk_.endpoint_closed.note(finish(request, 1s));
        endpoint_ = nullptr;
    }

    board& board_;
    desk& desk_;
    shared_memory& region_;
    context_handle context_;
    worker_handle worker_;
    rkey_handle rkey_; // after the worker, so that it is destroyed before it
    ucp_ep_h endpoint_ = nullptr;
    std::array<slot, streams> slots_;
    std::vector<std::byte> message_;
    std::uint64_t sequence_ = 0;
    bool streaming_ = false;
    std::uint32_t message_flags_ = 0; ///< 0: by put
};

} // namespace

void run_writer(board& shared, shared_memory& region) {
    writer_role(shared, region).run();
}

} // namespace experiment
