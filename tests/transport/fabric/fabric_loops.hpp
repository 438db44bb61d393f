// SPDX-License-Identifier: Apache-2.0
// Two fabrics on two loops, for conformance kits: made, held, killed and stopped.
#pragma once

#include "tests/support/real_system.hpp"
#include "tests/transport/fabric/fabric_probe.hpp"
#include "transport/loop/io_loop.hpp"

#include <array>
#include <future>

namespace kvferry::testing {

class fabric_loops {
public:
    fabric_loops() {
        for (auto& loop : loops_) {
            auto made =
                io_loop::make(real_.system(), {"fabric-test", std::chrono::microseconds{0}});
            REQUIRE(made);
            loop = std::move(*made);
        }
    }

    ~fabric_loops() {
        {
            fabric_probe probe{real_.system()};
            for (auto& fabric : fabrics_)
                if (fabric)
                    (void)probe.ask(fabric, stop_io{});
        }
        fabrics_ = {};
        real_.system().await_all_actors_done();
    }

    caf::actor_system& system() { return real_.system(); }
    io_loop& loop(int number) { return *loops_[number]; }

    fabric_actor keep(int number, fabric_actor fabric) {
        return fabrics_[number] = std::move(fabric);
    }

    /// While this object lives, nothing runs on that loop.
    class held {
    public:
        explicit held(io_loop& loop) {
            std::promise<void> is_held;
            loop.post([&is_held, until = release_.get_future().share()] {
                is_held.set_value();
                until.wait_for(fabric_patience);
            });
            is_held.get_future().wait();
        }
        held(held&&) = default;
        ~held() {
            if (armed_)
                release_.set_value();
        }

    private:
        struct once {
            bool value = true;
            once() = default;
            once(once&& other) noexcept : value(std::exchange(other.value, false)) {}
            explicit operator bool() const { return value; }
        };
        std::promise<void> release_;
        once armed_;
    };
    held hold(int number) { return held{*loops_[number]}; }

    /// Ends a fabric without a goodbye, as the death of its process would.
    void kill(int number) { caf::anon_send_exit(fabrics_[number], caf::exit_reason::kill); }

    /// Returns when that fabric is gone.
    void await_death(int number) {
        caf::scoped_actor self{real_.system()};
        self->monitor(fabrics_[number]);
        self->receive([](const caf::down_msg&) {},
                      caf::after(fabric_patience) >> [] { FAIL("a killed fabric lives on"); });
    }

private:
    real_system real_;
    std::array<std::unique_ptr<io_loop>, 2> loops_;
    std::array<fabric_actor, 2> fabrics_;
};

} // namespace kvferry::testing
