// SPDX-License-Identifier: Apache-2.0
// Two handshakes talk to each other over a network that loses, doubles and reorders what they say:
// in the end both are up or both are over.
#include "tests/actors/decisions/links/link_values.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

handshake::dependencies dials(const rank_info& self, const rank_info& peer, std::uint64_t dial) {
    handshake::dependencies result;
    result.self = self;
    result.peer = peer;
    result.dial = {dial};
    result.has_host_link = true;
    result.regions = {{0x1000 * self.incarnation.value, 64, memory_kind::host_shared, {}}};
    return result;
}

struct network {
    /// In percent of the steps.
    int loses = 0;
    int doubles = 0;
    bool reorders = false;
    /// Both sides dial.
    bool crossing = false;
    /// Somebody waits for each side.
    bool awaited = true;
    /// On two machines, of ranks that take requests right behind an introduction.
    bool early = false;
};

class conversation {
public:
    conversation(const network& over, std::uint64_t seed)
        : over_(over), random_(seed), near_rank_(rank(over, "near", 1)),
          far_rank_(rank(over, "far", 2)), near_(dials(near_rank_, far_rank_, 7)) {
        near_.tell(handshake::started{}, now_);
        if (over.crossing) {
            far_.emplace(dials(far_rank_, near_rank_, 8));
            far_->tell(handshake::started{}, now_);
        }
    }

    /// Says and loses, breaks nothing for good.
    void disturbed(int steps) {
        for (int step = 0; step < steps; ++step) {
            const auto choice = percent();
            if (choice < 40)
                carry(near_, far_, to_far_, true);
            else if (choice < 80 && far_)
                carry(*far_, near_, to_near_, true);
            else if (choice < 84)
                say(near_);
            else if (choice < 88 && far_)
                say(*far_);
            else if (choice < 95)
                answer_one();
            else if (choice < 98)
                pass_time();
            else if (choice < 99 && !over_.crossing && percent() < 10)
                near_.tell(handshake::told_to_close{make_error(errc::stopped, "stops"), true},
                           now_);
            else if (far_ && percent() < 10)
                far_->tell(handshake::broken{make_error(errc::malformed_message, "lies")}, now_);
        }
    }

    /// Both sides say much, and all of it arrives, out of order.
    void talks(int messages) {
        while (carry(near_, far_, to_far_, false) || answer_one()
               || (far_ && carry(*far_, near_, to_near_, false))) {
        }
        for (int each = 0; each < messages; ++each) {
            say(near_);
            say(*far_);
            if (each % 8 == 7)
                while (carry(near_, far_, to_far_, false) || carry(*far_, near_, to_near_, false)) {
                }
        }
    }

    /// How often the direction changes, until the far side has heard the first request of the near
    /// one, which was said at once; the dial counts.
    int turns_until_first_request() {
        while (answer_one()) {
        }
        say(near_);
        for (int turns = 1; turns < 10; ++turns) {
            while (turns % 2 == 1 ? carry(near_, far_, to_far_, false)
                                  : carry(*far_, near_, to_near_, false)) {
            }
            while (answer_one()) {
            }
            if (!far_->handed_on.empty())
                return turns;
        }
        return 0;
    }

    /// The far side's endpoint breaks when it has answered the dial, and nothing else does. All is
    /// carried to and fro then, but no time passes.
    void far_endpoint_breaks(bool answer_is_lost) {
        say(near_);
        while (carry(near_, far_, to_far_, false) || answer_one()) {
        }
        if (answer_is_lost)
            far_->sent.clear();
        far_->tell(
            handshake::endpoint_broken{far_->endpoint(), make_error(errc::link_lost, "reset")},
            now_);
        while (carry(near_, far_, to_far_, false) || carry(*far_, near_, to_near_, false)
               || answer_one()) {
        }
    }

    /// Nothing is lost any more, and time passes: every wait has an end.
    void settled() {
        for (int round = 0; round < 200; ++round) {
            while (carry(near_, far_, to_far_, false)
                   || (far_ && carry(*far_, near_, to_near_, false)) || answer_one()) {
            }
            pass_time();
        }
    }

    /// Both are up, and each has heard all that the other has said.
    bool is_complete() const {
        return near_.link.is_up() && far_ && far_->link.is_up()
               && near_.handed_on.size() + far_->handed_on.size() == said_;
    }

    const valued_link& near() const { return near_; }
    const std::optional<valued_link>& far() const { return far_; }
    std::uint64_t events() const { return near_.events + (far_ ? far_->events : 0); }

private:
    static rank_info rank(const network& over, const std::string& name, std::uint64_t number) {
        auto result = named_rank(name, number);
        if (over.early) {
            result.machine = name;
            result.protocol = protocol_version;
            result.capabilities = capability::early_requests;
        }
        return result;
    }

    int percent() { return static_cast<int>(random_() % 100); }

    void say(valued_link& from) {
        if (from.ended)
            return;
        request_data message;
        message.header.request = {++said_};
        from.say(message, now_);
    }

    bool answer_one() {
        const auto both = near_.owed.size() + (far_ ? far_->owed.size() : 0);
        if (both == 0)
            return false;
        auto index = random_() % both;
        auto& of = index < near_.owed.size() ? near_ : *far_;
        if (index >= near_.owed.size())
            index -= near_.owed.size();
        auto event = std::move(of.owed[index]);
        of.owed.erase(of.owed.begin() + static_cast<std::ptrdiff_t>(index));
        if (!of.ended)
            of.tell(std::move(event), now_);
        return true;
    }

    /// To the next time that one of them has named.
    void pass_time() {
        auto next = near_.link.wakes_at();
        const auto other = far_ ? far_->link.wakes_at() : std::nullopt;
        if (other && (!next || *other < *next))
            next = other;
        now_ = std::max(now_, next.value_or(now_));
        for (auto* each : {&near_, far_ ? &*far_ : nullptr})
            if (each && !each->ended && each->link.wakes_at() && *each->link.wakes_at() <= now_)
                each->tell(handshake::looked{over_.awaited}, now_);
    }

    /// False: nothing was on its way. The first introduction makes the far link.
    template <class To>
    bool carry(valued_link& from, To& to, std::vector<wire_message>& way, bool disturbed) {
        for (auto& message : std::exchange(from.sent, {}))
            way.push_back(std::move(message));
        if (way.empty())
            return false;
        const auto index = over_.reorders ? random_() % way.size() : 0;
        std::swap(way[index], over_.reorders ? way.back() : way[index]);
        const auto at = over_.reorders ? way.end() - 1 : way.begin();
        const auto twice = disturbed && percent() < over_.doubles;
        auto message = twice ? *at : std::move(*at);
        if (!twice)
            way.erase(at);
        if (disturbed && percent() < over_.loses)
            return true;
        deliver(to, std::move(message));
        return true;
    }

    void deliver(valued_link& to, wire_message message) { to.arrives(std::move(message), now_); }
    void deliver(std::optional<valued_link>& to, wire_message message) {
        if (to)
            return to->arrives(std::move(message), now_);
        if (!std::holds_alternative<register_rank_info>(message))
            return early_.push_back(std::move(message));
        auto with = dials(far_rank_, near_rank_, 8);
        with.introduction = std::get<register_rank_info>(std::move(message));
        to.emplace(std::move(with));
        to->tell(handshake::started{}, now_);
        for (auto& each : std::exchange(early_, {}))
            to->arrives(std::move(each), now_);
    }

    network over_;
    std::mt19937_64 random_;
    rank_info near_rank_;
    rank_info far_rank_;
    time_point now_{1h};
    valued_link near_;
    std::optional<valued_link> far_;
    std::vector<wire_message> to_far_, to_near_;
    /// Have overtaken the introduction.
    std::vector<wire_message> early_;
    std::uint64_t said_ = 0;
};

/// Requests reach the other side in the order in which they were said, each once.
bool in_order(const std::vector<wire_message>& heard) {
    std::uint64_t last = 0;
    for (const auto& message : heard) {
        const auto number = header_of(message).request.value;
        if (number <= last)
            return false;
        last = number;
    }
    return true;
}

bool is_gone(const std::optional<valued_link>& x) {
    return !x || x->link.is_over();
}

} // namespace

TEST_CASE(
    "handshake: two links end up both up or both over, whatever the network does to them, and "
    "neither is told twice") {
    network over;
    SUBCASE("nothing is lost") {}
    SUBCASE("messages are reordered") {
        over.reorders = true;
    }
    SUBCASE("messages come twice, and out of order") {
        over.reorders = true;
        over.doubles = 20;
    }
    SUBCASE("messages are lost") {
        over.loses = 10;
    }
    SUBCASE("everything at once") {
        over.loses = 5;
        over.reorders = true;
        over.doubles = 10;
    }
    SUBCASE("nobody waits for anybody") {
        over.loses = 10;
        over.awaited = false;
    }
    for (const auto kind : {0, 1, 2, 3}) {
        const auto crossing = over.crossing = kind % 2 == 1;
        const auto early = over.early = kind / 2 == 1;
        int up = 0;
        for (std::uint64_t seed = 1; seed <= 300; ++seed) {
            conversation talk{over, seed};
            talk.disturbed(60);
            talk.settled();
            CAPTURE(seed);
            CAPTURE(crossing);
            CAPTURE(early);
            const auto& near = talk.near();
            const auto& far = talk.far();
            REQUIRE(near.link.is_up() != near.link.is_over());
            REQUIRE(near.link.is_up() == (far && far->link.is_up()));
            REQUIRE(near.link.is_over() == is_gone(far));
            REQUIRE(near.ups <= 1);
            REQUIRE(near.losses == (near.link.is_over() ? 1 : 0));
            REQUIRE(in_order(near.handed_on));
            if (far) {
                REQUIRE(far->ups <= 1);
                REQUIRE(far->losses == (far->link.is_over() ? 1 : 0));
                REQUIRE(in_order(far->handed_on));
            }
            if (near.link.is_up() && over.loses == 0)
                REQUIRE(talk.is_complete());
            up += near.link.is_up() ? 1 : 0;
        }
        CHECK(up > 0);
    }
}

TEST_CASE("handshake: between machines a dialler asks with its introduction, and is answered what "
          "it asked, not only that it may: messages to and fro, counted") {
    for (const auto early : {false, true}) {
        conversation talk{{.early = early}, 1};
        CHECK(talk.turns_until_first_request() == (early ? 1 : 3));
    }
}

TEST_CASE(
    "handshake: a dialler need not wait for its deadline when the other side's endpoint breaks: "
    "it is told over another one, whether it has heard its answer or not") {
    for (const auto early : {false, true})
        for (const auto answer_is_lost : {false, true}) {
            CAPTURE(early);
            CAPTURE(answer_is_lost);
            conversation talk{{.early = early}, 1};
            talk.far_endpoint_breaks(answer_is_lost);
            CHECK(talk.near().losses == 1);
            CHECK(talk.near().link.is_over());
            REQUIRE(talk.far());
            CHECK(talk.far()->losses == 1);
            CHECK(talk.far()->ended);
        }
}

TEST_CASE("handshake: the pace of its decisions"
          * doctest::description("prints, asserts nothing about it")) {
    network over;
    over.reorders = true;
    std::uint64_t events = 0;
    const auto begun = std::clock();
    for (std::uint64_t seed = 1; seed <= 500; ++seed) {
        conversation talk{over, seed};
        talk.talks(500);
        REQUIRE(talk.near().link.is_up());
        events += talk.events();
    }
    const auto seconds = static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC;
    MESSAGE(static_cast<std::uint64_t>(static_cast<double>(events) / seconds)
            << " events of handshake and message_order per second of a core");
}
