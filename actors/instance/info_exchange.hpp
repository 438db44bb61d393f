// SPDX-License-Identifier: Apache-2.0
// Questions to rank-info servers, whatever carries them: who waits for which answer until when.
//
// The base of info_link and of its twin. They differ in how a question
// gets to its server (call) and in what publishing means; all else, deadlines and errors included,
// is the same code.
#pragma once

#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

namespace kvferry {

class info_exchange {
public:
    info_exchange(ticking_info_link::pointer self, const limits& bounds);
    virtual ~info_exchange() = default;
    info_exchange(const info_exchange&) = delete;
    info_exchange& operator=(const info_exchange&) = delete;

protected:
    /// One question on its way; several askers of the same thing may share it.
    using exchange_id = std::uint64_t;

    caf::result<instance_info> on_fetch(const fetch_instance_info&);
    caf::result<void> on_register(const register_with_instance&);
    void on_deadline(const deadline_tick&);

    /// Carries a question to the server at an endpoint: ends in answered() or failed(), or is ended
    /// by hang_up(). `link_lost` says that the connection was made and broke.
    virtual void call(exchange_id, call_info_server) = 0;

    /// Ends the call of an exchange that is over, unless the call has ended already.
    virtual void hang_up(exchange_id) = 0;

    void answered(exchange_id, const info_frame&);
    void failed(exchange_id, const caf::error&);

    ticking_info_link::pointer self_;
    limits bounds_;

private:
    using fetch_promise = caf::typed_response_promise<instance_info>;
    using register_promise = caf::typed_response_promise<void>;
    using asker_id = std::uint64_t;

    struct asker {
        std::variant<fetch_promise, register_promise> answer;
        exchange_id exchange = 0;
        std::chrono::milliseconds deadline{};
    };

    /// An instance as its server told it last.
    struct known_instance {
        std::uint64_t digest = 0;
        std::vector<rank_info> ranks;
    };
    using known_ptr = std::shared_ptr<const known_instance>;

    struct exchange {
        info_endpoint endpoint;
        time_point until;
        /// Others may wait for the same answer.
        bool shared = false;
        /// What the server was told that is known here; null: nothing.
        known_ptr known;
        wire_message question;
        int calls = 0;
        std::vector<asker_id> askers;
    };

    /// A connection that breaks says nothing about the server: so often it is asked in a row.
    static constexpr int calls_max = 3;

    /// One that may be dropped: the server tells everything to an asker who knows nothing.
    struct remembered {
        known_ptr instance;
        std::uint64_t last_use = 0;
    };

    /// Where a text led: a rank asks the same server again and again.
    struct dialled {
        std::string text;
        info_endpoint endpoint;
    };

    /// How a rank introduced itself: it does so again and again.
    struct introduction {
        rank_info info;
        std::vector<std::string> answers_at;
        std::uint16_t version = 0;
        byte_buffer frame;
    };

    caf::error find(const std::string& endpoint);
    caf::expected<byte_buffer> frame_of(const wire_message& question);
    caf::error ask_at(const std::string& endpoint, std::chrono::milliseconds deadline,
                      wire_message question,
                      const std::variant<fetch_promise, register_promise>& answer);
    void place_call(exchange_id, byte_buffer frame);
    void place_call_again(exchange_id);
    bool asks_older(exchange_id, const wire_message& answer);
    exchange_id joinable(const info_endpoint&, time_point until) const;
    known_ptr known_at(const info_endpoint&);
    void remember(const info_endpoint&, known_ptr);
    caf::expected<known_ptr> read(const exchange&, const wire_message&) const;
    std::vector<asker> close(exchange_id);

    std::unordered_map<exchange_id, exchange> exchanges_;
    std::unordered_map<asker_id, asker> askers_;
    std::map<info_endpoint, remembered> known_;
    dialled last_;
    introduction said_;
    std::uint64_t numbered_ = 0;
    deadline_queue<asker_id> deadlines_;
    tick_timer timer_;
};

} // namespace kvferry
