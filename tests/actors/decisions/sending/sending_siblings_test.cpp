// SPDX-License-Identifier: Apache-2.0
// What a sending session does when ranks bring each other what they need: one that dies, or loses
// its link with its own part, does not end it for those that have not asked for all.
#include "actors/decisions/sending/sending.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

using namespace kvferry;

namespace {

incarnation process_of(std::uint32_t rank) {
    return {100 + rank};
}

struct story {
    /// Ranks 0 and 1 are to ask; whether they bring each other what they need.
    explicit story(bool relay = true) {
        for (std::uint32_t rank = 0; rank < 2; ++rank) {
            auto view = std::make_shared<peer_view>();
            view->info.instance = "gen";
            view->info.rank = {rank};
            view->info.incarnation = process_of(rank);
            view->info.capabilities = relay ? capability::relays : 0;
            peers[rank] = view;
        }
    }

    sending::effects after(sending::event x) { return value.on(std::move(x), {}); }

    sending::effects sent() {
        send_slice message;
        message.slice.tokens = {0, 16};
        message.slice.prompt_tokens = 16;
        return after(std::move(message));
    }

    sending::effects asks(std::uint32_t rank, std::uint32_t number = 0, bool last = true,
                          std::vector<view_place> views = {}, bool kv = true) {
        request_data message;
        message.header.request = {7};
        message.header.attempt = {4711 + rank};
        message.header.receive_slice = {number};
        message.target.tokens = {0, 16};
        message.target.prompt_tokens = 16;
        message.target.last = last;
        message.receivers = {{0}, {1}};
        message.views = std::move(views);
        message.kv = kv;
        message.relayed = !kv;
        return after(sending_events::asked{{std::move(message), peers[rank]}, {}, {}});
    }

    sending::effects served(std::uint32_t rank, std::uint32_t number = 0) {
        return after(sending_events::piece_ended{{{rank}, {number}}, {0}});
    }

    sending::effects lost(std::uint32_t rank, errc why = errc::link_lost) {
        return after(peer_lost{process_of(rank), make_error(why, "no route")});
    }

    static std::optional<session_state> outcome(const sending::effects& all) {
        for (const auto& each : all)
            if (const auto* told = std::get_if<sending_effects::tell_host>(&each))
                if (const auto* end = std::get_if<session_finished>(&told->message))
                    return end->state;
        return std::nullopt;
    }

    std::array<peer_view_ptr, 2> peers;
    sending value{{{7}, aux_mode::none, std::make_shared<const rank_info>(), 64}};
};

} // namespace

TEST_CASE("sending: a rank that dies where bytes were to land does not end it for one that has not "
          "asked yet; that one is served, and then it has failed") {
    story x;
    x.sent();
    x.asks(0); // is being planned
    const sending_events::piece_planned planned{{{0}, {0}}, {0}, {5}};
    x.after(planned);
    CHECK_FALSE(story::outcome(x.lost(0)));
    CHECK_FALSE(x.value.has_ended());
    x.after(sending_events::piece_ended{{{0}, {0}}, {0}, agent_result::failed});
    CHECK_FALSE(x.value.has_ended());
    const auto asked = x.asks(1);
    CHECK(std::any_of(asked.begin(), asked.end(), [](const auto& each) {
        return std::holds_alternative<sending_effects::plan_piece>(each);
    }));
    CHECK(story::outcome(x.served(1)) == session_state::error);
}

TEST_CASE("sending: where ranks bring each other nothing, or all have asked, a death ends it at "
          "once") {
    SUBCASE("nothing") {
        story x{false};
        x.sent();
        x.asks(0);
        x.after(sending_events::piece_planned{{{0}, {0}}, {0}, {5}});
        CHECK(story::outcome(x.lost(0)) == session_state::error);
    }
    SUBCASE("all have asked") {
        story x;
        x.sent();
        x.asks(0);
        x.after(sending_events::piece_planned{{{0}, {0}}, {0}, {5}});
        x.asks(1);
        CHECK(story::outcome(x.lost(0)) == session_state::error);
    }
}

TEST_CASE("sending: a rank that has its own part may lose its link while siblings bring the rest; "
          "it says over a new one that it has it") {
    story x;
    x.sent();
    x.asks(0, 0, false, {{0, 0}});
    x.served(0);
    x.asks(1);
    x.served(1);
    CHECK_FALSE(story::outcome(x.lost(0)));
    CHECK_FALSE(x.value.has_ended());
    SUBCASE("it comes back") {
        CHECK(story::outcome(x.asks(0, 1, true, {}, false)) == session_state::kv_transferred);
    }
    SUBCASE("its process is gone") {
        CHECK(story::outcome(x.after(process_gone{process_of(0)})) == session_state::error);
    }
    SUBCASE("its link is given up") {
        x.asks(0, 1, false, {{0, 1}}); // over a new link, and is being planned
        CHECK(story::outcome(x.lost(0, errc::peer_gone)) == session_state::error);
    }
}
