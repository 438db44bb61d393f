// SPDX-License-Identifier: Apache-2.0
// When a rank introduces itself to its instance's rank-info server again, and when it believes that
// another process has its place. A value.
#pragma once

#include "actors/shared/back_off.hpp"
#include "actors/shared/small_random.hpp"
#include "messages/errors.hpp"
#include "messages/values/time.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace kvferry {

class registration {
public:
    /// Periods for which the server must name another process before this rank believes it: longer
    /// than the server waits for a process that has stopped introducing itself.
    static constexpr int replaced_after = 6;

    // -- events ---------------------------------------------------------------------------------

    /// The time of the last `wake`.
    struct due {};
    struct registered {};
    struct failed {
        caf::error reason;
    };
    using event = std::variant<due, registered, failed>;

    // -- effects --------------------------------------------------------------------------------

    /// Then `registered` or `failed`.
    struct introduce {};
    struct wake {
        time_point at;
    };
    /// The server, which had not answered, knows this rank again.
    struct known_again {};
    struct unanswered {
        caf::error reason;
    };
    /// Another process has taken this place, or a registration of a dead one came late.
    struct displaced {
        caf::error reason;
    };
    struct give_up {
        caf::error reason;
    };
    using effect = std::variant<introduce, wake, known_again, unanswered, displaced, give_up>;
    using effects = std::vector<effect>;

    /// `period`: limits::registration_period.
    registration(clock::duration period, std::uint64_t seed) : period_(period), random_(seed) {}

    effects on(event&&, time_point now);

private:
    effects on(due&, time_point) { return {introduce{}}; }
    effects on(registered&, time_point);
    effects on(failed&, time_point);

    clock::duration period_;
    small_random random_;
    /// While the server does not answer; spreads the retries, so that ranks do not retry in step.
    std::optional<back_off> unanswered_;
    /// Since when the server names another process in this rank's place. A dead one stays silent,
    /// and then the server takes this rank back.
    std::optional<time_point> displaced_since_;
};

} // namespace kvferry
