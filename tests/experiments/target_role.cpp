// SPDX-License-Identifier: Apache-2.0
// The target: owns the region, progresses its worker or does not, and notes what UCX tells it.
#include "roles.hpp"
#include "ucx_handles.hpp"

#include <algorithm>
#include <optional>
#include <poll.h>

namespace experiment {
namespace {

constexpr unsigned am_id = 7;

class target_role {
public:
    target_role(board& shared, shared_memory& region)
        : board_(shared), desk_(shared.target), region_(region), context_(make_context()),
          worker_(make_worker(context_.get())) {
        ucp_am_handler_param_t handler{};
        handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB
                             | UCP_AM_HANDLER_PARAM_FIELD_ARG;
        handler.id = am_id;
        handler.cb = &target_role::on_message;
        handler.arg = this;
        check_ucx(ucp_worker_set_am_recv_handler(worker_.get(), &handler), "set_am_recv_handler");
        registered_.emplace(context_.get(), std::span(region.data(), region.size()));
        void* key = nullptr;
        std::size_t key_bytes = 0;
        check_ucx(ucp_rkey_pack(context_.get(), registered_->get(), &key, &key_bytes), "rkey_pack");
        board_.rkey.put(key, key_bytes);
        ucp_rkey_buffer_release(key);
        board_.region_address = reinterpret_cast<std::uint64_t>(region.data());
        ucp_address_t* address = nullptr;
        std::size_t size = 0;
        check_ucx(ucp_worker_get_address(worker_.get(), &address, &size), "get_address");
        desk_.worker_address.put(address, size);
        ucp_worker_release_address(worker_.get(), address);
        if (board_.target_has_endpoint) {
            const auto& peer = board_.writer.worker_address;
            const auto end = now_ns() + 5'000'000'000;
            while (peer.size.load(std::memory_order_acquire) == 0 && now_ns() < end)
                sched_yield();
            endpoint_ = make_endpoint(worker_.get(), {peer.bytes.data(), peer.size.load()},
                                      &target_role::on_endpoint_error, this, board_.peer_errors);
        }
        desk_.ready.set(1);
    }

    void run() {
        const auto end = now_ns() + std::chrono::nanoseconds(child_life_max).count();
        while (now_ns() < end) {
            if (const auto word = desk_.ordered.get(); word != current_) {
                current_ = word;
                what_ = static_cast<order>(order_of(word));
                if (what_ == order::quit)
                    break;
                if (what_ == order::replace_worker)
                    replace_worker();
                if (what_ == order::close_endpoint)
                    close_by_force();
                desk_.obeyed.set(word);
            }
            if (what_ == order::hold || what_ == order::close_endpoint)
                desk_.ordered.wait_while(current_, 1s);
            else
                progress();
        }
    }

    ~target_role() { close_by_force(); }

private:
    void progress() {
        const bool gone = board_.writer_gone.load();
        const auto events = ucp_worker_progress(worker_.get());
        if (gone) {
            ++board_.rounds_after_gone;
            if (events) {
                if (idle_ > board_.idle_gap_max)
                    board_.idle_gap_max = idle_;
                idle_ = 0;
                board_.last_busy_ns = now_ns();
            } else {
                ++idle_;
            }
        }
        if (what_ == order::sleep && events == 0)
            sleep();
    }

    /// The order matters: nothing may be left to progress when arm is called, and after
    /// UCS_ERR_BUSY one progresses again instead of sleeping.
    void sleep() {
        const auto status = ucp_worker_arm(worker_.get());
        if (status == UCS_ERR_BUSY) {
            ++board_.arm_busy;
            return;
        }
        check_ucx(status, "ucp_worker_arm");
        int fd = -1;
        check_ucx(ucp_worker_get_efd(worker_.get(), &fd), "ucp_worker_get_efd");
        ++board_.sleeps;
        pollfd p{fd, POLLIN, 0};
        board_.wakes += poll(&p, 1, 20) == 1; // short, because orders do not wake this sleep
    }

    /// The endpoint goes first: destroying a worker that has open receive requests aborts.
    void replace_worker() {
        close_by_force();
        worker_ = nullptr;
        worker_ = make_worker(context_.get());
    }

    void close_by_force() {
        if (!endpoint_)
            return;
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
        param.flags = UCP_EP_CLOSE_FLAG_FORCE;
        auto* request = ucp_ep_close_nbx(endpoint_, &param);
        endpoint_ = nullptr;
        if (UCS_PTR_IS_PTR(request)) {
            const auto end = now_ns() + 1'000'000'000;
            while (ucp_request_check_status(request) == UCS_INPROGRESS && now_ns() < end)
                ucp_worker_progress(worker_.get());
            desk_.endpoint_closed.note(ucp_request_check_status(request));
            ucp_request_free(request);
        } else {
            desk_.endpoint_closed.note(UCS_PTR_RAW_STATUS(request));
        }
    }

    /// Rendezvous messages go straight into the region, eager ones are copied there.
    static ucs_status_t on_message(void* self, const void*, std::size_t, void* data,
                                   std::size_t bytes, const ucp_am_recv_param_t* how) {
        auto& me = *static_cast<target_role*>(self);
        if (bytes > me.region_.size())
            return UCS_OK;
        if (!(how->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)) {
            std::memcpy(me.region_.data(), data, bytes);
            return UCS_OK;
        }
        ucp_request_param_t param{};
        param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
        param.user_data = self;
        param.cb.recv_am = [](void* request, ucs_status_t status, std::size_t, void* user) {
            static_cast<target_role*>(user)->received(status);
            --static_cast<target_role*>(user)->board_.receives_open;
            ucp_request_free(request);
        };
        auto* request =
            ucp_am_recv_data_nbx(me.worker_.get(), data, me.region_.data(), bytes, &param);
        if (UCS_PTR_IS_PTR(request))
            ++me.board_.receives_open;
        else
            me.received(UCS_PTR_RAW_STATUS(request));
        return UCS_INPROGRESS; // the descriptor now belongs to the receive request
    }

    void received(ucs_status_t status) {
        if (status == UCS_OK)
            return;
        board_.print_at_receive_failed = fingerprint(region_.data(), region_.size());
        board_.receive_failed.note(status);
    }

    static void on_endpoint_error(void* self, ucp_ep_h, ucs_status_t status) {
        auto& me = *static_cast<target_role*>(self);
        me.board_.print_at_error = fingerprint(me.region_.data(), me.region_.size());
        me.desk_.endpoint_error.note(status);
    }

    board& board_;
    desk& desk_;
    shared_memory& region_;
    context_handle context_;
    std::optional<registration> registered_;
    worker_handle worker_;
    ucp_ep_h endpoint_ = nullptr;
    std::uint32_t current_ = 0;
    order what_ = order::progress;
    std::uint64_t idle_ = 0;
};

} // namespace

void run_target(board& shared, shared_memory& region) {
    target_role(shared, region).run();
}

} // namespace experiment
