// SPDX-License-Identifier: Apache-2.0
// The rank-info server of an instance: lives on rank 0, hands out all ranks or none.
#pragma once

#include "actors/instance/info_answers.hpp"
#include "actors/instance/instance_roster.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace kvferry {

class rank_info_server_state {
public:
    static inline constexpr const char* name = "rank_info_server";

    struct dependencies {
        std::string instance;
        std::uint32_t world_size = 1;
        /// Used: info_deadline, info_questions_max, message_bytes_max, instance_bytes_max.
        limits bounds;
    };

    rank_info_server_state(ticking_rank_info_server::pointer self, dependencies);

    ticking_rank_info_server::behavior_type make_behavior();

private:
    /// A question that waits for the last rank, asked inside the process or by a frame.
    struct question {
        message_header header;
        /// Of a frame: digest of what the asker has.
        std::uint64_t known;
        std::variant<caf::typed_response_promise<instance_info>,
                     caf::typed_response_promise<info_frame>>
            answer;
    };

    /// The frame for everybody who speaks one version, made once for each state of the roster.
    struct encoded_roster {
        std::uint64_t changes = 0;
        std::uint64_t digest = 0;
        std::shared_ptr<const byte_buffer> frame;
        /// Why there is none.
        caf::error problem;
    };

    /// The frame in which a rank introduced itself, as far as its answer depends on it.
    struct introduction {
        std::uint64_t digest = 0;
        message_header header;
        dial_id dial;
    };

    caf::result<void> on_register(const register_rank_info&);
    caf::result<instance_info> on_request(const request_instance_info&);
    caf::result<info_frame> on_frame(const info_frame&);
    caf::result<ranks_listed> on_list(const list_ranks&);
    void on_deadline(const deadline_tick&);

    caf::result<info_frame> on_introduction(std::uint64_t digest, register_rank_info);
    std::optional<info_frame> answer_again(std::uint64_t digest);
    caf::error enter(register_rank_info);
    caf::error enqueue(question);
    std::chrono::milliseconds patience() const;
    void answer(question&);
    void refuse(question&, const caf::error&);
    instance_info everything(const message_header& to) const;
    info_frame everything_framed(const message_header& to, std::uint64_t known);
    encoded_roster encode_roster(std::uint16_t version) const;
    info_answers answers() const;

    ticking_rank_info_server::pointer self_;
    dependencies with_;
    instance_roster roster_;
    /// What each rank said last, and by its digest whose it is.
    std::vector<introduction> introductions_;
    std::unordered_map<std::uint64_t, rank_id> introduced_;
    /// By version; there are as many as are understood.
    std::map<std::uint16_t, encoded_roster> encoded_;
    std::unordered_map<std::uint64_t, question> waiting_;
    std::uint64_t asked_ = 0;
    deadline_queue<std::uint64_t> deadlines_;
    tick_timer timer_;
};

/// The listener keeps a published server alive, so its owner ends it by an exit message.
rank_info_server_actor spawn_rank_info_server(caf::actor_system&, placement,
                                              rank_info_server_state::dependencies);

} // namespace kvferry
