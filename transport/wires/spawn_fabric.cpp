// SPDX-License-Identifier: Apache-2.0
#include "transport/wires/spawn_fabric.hpp"

#include "messages/values/error_format.hpp"

#include <atomic>
#include <future>
#include <utility>

namespace kvferry {

namespace {

class fabric_io_state : public fabric_state {
public:
    static inline constexpr const char* name = "fabric_io";

    /// Made on the loop's thread, like everything here.
    fabric_io_state(pointer self, const fabric_dependencies& with, std::unique_ptr<wire> below)
        : fabric_state(self, with, std::move(below)),
          keep_alive_(caf::actor_cast<caf::strong_actor_ptr>(self)) {}
    ~fabric_io_state() override { release(); }

    wired_fabric_actor::behavior_type make_behavior() { return behavior_of(this); }

private:
    /// Keeps the fabric alive without an outside reference: it ends by stop_io.
    caf::strong_actor_ptr keep_alive_;
};

} // namespace

caf::expected<fabric_actor> spawn_fabric(caf::actor_system& system, io_loop& loop,
                                         fabric_dependencies with, wire_maker make) {
    auto wait = with.bounds.dial_deadline;
    auto build = [&system, &loop, with = std::move(with),
                  make = std::move(make)]() -> caf::expected<fabric_actor> {
        const counting_for rank{with.counters}; // no actor runs here
        auto below = make();
        if (!below)
            return std::move(below.error());
        return fabric_actor{spawn_at<wired_fabric_actor, fabric_io_state>(system, placement{&loop},
                                                                          with, std::move(*below))};
    };
    if (loop.on_thread())
        return build();
    struct handshake {
        std::promise<caf::expected<fabric_actor>> made;
        std::atomic<bool> over = false;
    };
    auto shared = std::make_shared<handshake>();
    auto made = shared->made.get_future();
    loop.post([shared, build] {
        auto result = build();
        if (!shared->over.exchange(true))
            shared->made.set_value(std::move(result));
        else if (result) // the caller has given up
            caf::anon_send(*result, stop_io{});
    });
    if (made.wait_for(wait) != std::future_status::ready && !shared->over.exchange(true))
        return make_error(errc::deadline_exceeded, "the loop did not make the fabric within {} ms",
                          wait.count());
    return made.get();
}

} // namespace kvferry
