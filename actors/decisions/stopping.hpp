// SPDX-License-Identifier: Apache-2.0
// How a rank stops: sessions first, then links (they say goodbye), then the I/O actors. What is not
// proven quiet by the deadline keeps its memory, its mappings and the actors that own them, and is
// named. A value.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/time.hpp"

#include <chrono>
#include <cstddef>
#include <string>
#include <variant>
#include <vector>

namespace kvferry {

class stopping {
public:
    // -- events ---------------------------------------------------------------------------------

    struct told {
        std::chrono::milliseconds within;
        /// The rank has a sender and a receiver.
        bool has_sessions = false;
    };
    /// The sender or the receiver has ended its sessions. `kept`: why it cannot vouch for all of
    /// them; `rank_failed`: why the whole rank had failed before.
    struct sessions_ended {
        caf::error kept = {};
        caf::error rank_failed = {};
    };
    struct links_ended {};
    struct io_ended {};
    struct deadline_reached {};
    /// What sessions there are, as texts.
    struct listed {
        std::vector<std::string> sessions;
    };
    /// They cannot be listed.
    struct not_listed {
        caf::error reason;
    };

    using event = std::variant<told, sessions_ended, links_ended, io_ended, deadline_reached,
                               listed, not_listed>;

    // -- effects --------------------------------------------------------------------------------

    struct refuse {
        caf::error reason;
    };
    /// Tell me at this time.
    struct arm {
        std::chrono::milliseconds within;
    };
    struct end_registrar {};
    /// Both tables; `sessions_ended` for each.
    struct cancel_sessions {
        caf::error reason;
    };
    /// With a goodbye; `links_ended` when none runs.
    struct close_links {
        caf::error reason;
        std::chrono::milliseconds within;
    };
    /// `io_ended` when all have.
    struct stop_io {};
    /// `listed` or `not_listed`.
    struct list_sessions {};
    struct answer {
        std::vector<std::string> unproven;
    };
    struct fail_answer {
        caf::error reason;
    };
    struct leave {};

    using effect = std::variant<refuse, arm, end_registrar, cancel_sessions, close_links, stop_io,
                                list_sessions, answer, fail_answer, leave>;
    using effects = std::vector<effect>;

    /// `who`: the rank, for texts.
    explicit stopping(std::string who = {}) : who_(std::move(who)) {}

    effects on(event&&, time_point now);

    bool begun() const { return !std::holds_alternative<running>(phase_); }

private:
    struct running {};
    struct ending_sessions {
        int tables = 2;
        std::vector<std::string> kept = {};
    };
    struct closing_links {};
    struct stopping_io {};
    /// For ever: a goodbye would be proof to the peers.
    struct keeping {
        std::vector<std::string> kept;
    };
    struct over {};

    enum class owed : std::uint8_t { answer, answer_with_list, nothing };

    effects on(told&, time_point);
    effects on(sessions_ended&, time_point);
    effects on(links_ended&, time_point);
    effects on(io_ended&, time_point);
    effects on(deadline_reached&, time_point);
    effects on(listed&, time_point);
    effects on(not_listed&, time_point);

    effects begin_closing_links(time_point now);

    std::string who_;
    std::variant<running, ending_sessions, closing_links, stopping_io, keeping, over> phase_;
    owed owed_ = owed::nothing;
    time_point by_{};
};

} // namespace kvferry
