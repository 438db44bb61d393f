// SPDX-License-Identifier: Apache-2.0
// The target's half of the fabric's twin: puts of other twins into regions of this one.
#include "messages/handle.hpp"
#include "transport/loopback_io.hpp"
#include "transport/put_check.hpp"

#include <algorithm>
#include <cstring>

namespace kvferry {

void loopback_io_state::on_start_copy(const start_copy& message) {
    write x{self_->current_sender() ? self_->current_sender()->address() : caf::actor_addr{},
            message.id,
            message.job,
            message.reply_to,
            self_->clock().now(),
            {},
            ++last_write_,
            {}};
    if (stopping_)
        x.stopped_by = make_error(errc::stopped, "the target's fabric stops");
    else
        x.stopped_by = check_put(x.job, [this](std::uint32_t id) -> caf::expected<target_region> {
            auto found = regions_.find(region_id{id});
            if (found == regions_.end())
                return make_error(errc::transfer_failed,
                                  "the peer has taken back this access key: its region "
                                      + std::to_string(id) + " is not registered any more");
            return target_region{reinterpret_cast<std::uint64_t>(found->second.base),
                                 found->second.bytes};
        });
    writes_.push_back(std::move(x));
    if (writes_.size() == 1)
        tell(self_, loopback_actor{self_}, deadline_tick{});
}

/// One piece of the oldest write; then it goes to the end of the line, so that all share by bytes.
void loopback_io_state::on_tick(const deadline_tick&) {
    if (writes_.empty())
        return;
    auto x = std::move(writes_.front());
    writes_.pop_front();
    if (write_piece(x))
        finish_write(x);
    else
        writes_.push_back(std::move(x));
    if (!writes_.empty())
        tell(self_, loopback_actor{self_}, deadline_tick{});
    finish_drains();
    finish_stop();
}

/// True when nothing is left to do.
bool loopback_io_state::write_piece(write& x) {
    const auto piece = with_.bounds.copy_piece_bytes_max;
    for (std::uint64_t bytes = 0; bytes < piece && !x.stopped_by;) {
        auto next = x.cursor.next(x.job, piece - bytes);
        if (!next)
            return true;
        if (!regions_.contains(region_id{next->target_region})) {
            x.stopped_by = make_error(errc::transfer_failed, "the peer has taken its region back");
            break;
        }
        std::memcpy(reinterpret_cast<void*>(next->target_address),
                    reinterpret_cast<const void*>(next->source_address), next->bytes);
        bytes += next->bytes;
    }
    return bool{x.stopped_by};
}

void loopback_io_state::finish_write(const write& x) {
    tell(self_, x.reply_to,
         transfer_done{x.id, x.stopped_by ? agent_result::failed : agent_result::success,
                       x.cursor.bytes(), x.stopped_by, x.began, self_->clock().now()});
}

caf::result<void> loopback_io_state::on_unregister_region(const unregister_region& message) {
    if (regions_.erase(message.region) == 0)
        return make_error(errc::invalid_argument,
                          "region " + to_string(message.region) + " is not registered");
    return {};
}

caf::result<void> loopback_io_state::on_drain_fabric(const drain_fabric& message) {
    drained_.insert(message.peer);
    auto done = self_->make_response_promise<answer>();
    drains_.push_back({last_write_, done});
    finish_drains();
    return done;
}

/// A drain is over when every write that was there at its time is.
void loopback_io_state::finish_drains() {
    auto oldest = last_write_ + 1;
    for (const auto& x : writes_)
        oldest = std::min(oldest, x.number);
    while (!drains_.empty() && drains_.front().up_to < oldest) {
        drains_.front().done.deliver();
        drains_.pop_front();
    }
}

} // namespace kvferry
