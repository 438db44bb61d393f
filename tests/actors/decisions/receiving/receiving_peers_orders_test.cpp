// SPDX-License-Identifier: Apache-2.0
// Random orders of what happens to a receiver's instances and links, against a model of each.
//
// Held here: I6 (every session that waits for an instance is bound or failed, once), I13 (nothing
// is remembered of what nobody needs), and that nobody is asked or dialled twice at a time.
#include "actors/decisions/receiving/known_instances.hpp"
#include "actors/decisions/receiving/receiving_links.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

std::uint32_t below(std::mt19937_64& random, std::uint32_t bound) {
    return static_cast<std::uint32_t>(random() % bound);
}

class instances {
public:
    explicit instances(std::uint64_t seed) : random_(seed) {
        for (auto steps = 0; steps < 60; ++steps)
            step();
        // All that is asked is answered: nobody is left waiting.
        for (auto rounds = 0; rounds < 20 && !waiting_.empty(); ++rounds) {
            now_ += back_off::longest;
            happens(known_instances::tick{});
            for (const auto& endpoint : std::set<std::string>{asked_})
                answer(endpoint);
        }
        CHECK(waiting_.empty());
        CHECK(value_.waiting().empty());
    }

private:
    void step() {
        const auto endpoint = endpoints_[below(random_, 3)];
        switch (below(random_, 8)) {
        case 0:
        case 1:
            waiting_.insert(++opened_);
            return happens(known_instances::session_opened{{opened_}, {opened_}, endpoint});
        case 2:
            if (!waiting_.empty()) {
                const auto left = *waiting_.begin();
                waiting_.erase(waiting_.begin());
                happens(known_instances::session_left{{left}});
            }
            return;
        case 3:
            return happens(known_instances::session_failed{endpoint});
        case 4:
            return happens(
                known_instances::rank_lost{{100 + below(random_, 3)}, below(random_, 2) == 0});
        case 5:
            now_ += 7ms;
            return happens(known_instances::tick{});
        default:
            return asked_.contains(endpoint) ? answer(endpoint) : void();
        }
    }

    void answer(const std::string& endpoint) {
        asked_.erase(endpoint);
        if (below(random_, 4) == 0)
            return happens(known_instances::not_answered{
                endpoint,
                make_error(below(random_, 2) == 0 ? errc::limit_exceeded : errc::dial_failed,
                           "nobody there")});
        std::vector<rank_info> ranks(1);
        ranks[0].incarnation = {100 + static_cast<std::uint64_t>(endpoint.back() - '0')};
        happens(known_instances::answered{endpoint, std::move(ranks)});
    }

    void happens(known_instances::event event) {
        for (const auto& effect : value_.on(std::move(event), now_)) {
            if (const auto* x = std::get_if<known_instances::fetch>(&effect))
                CHECK(asked_.insert(x->endpoint).second);
            if (const auto* x = std::get_if<known_instances::bind_session>(&effect)) {
                CHECK(waiting_.erase(x->attempt.value) == 1);
                CHECK(value_.answer_of(endpoints_[0]));
            }
            if (const auto* x = std::get_if<known_instances::fail_session>(&effect))
                CHECK(waiting_.erase(x->attempt.value) == 1);
        }
    }

    std::mt19937_64 random_;
    std::vector<std::string> endpoints_{"own:0", "ctx:1", "ctx:2"};
    known_instances value_{
        {.own_endpoint = "own:0", .age_min = 5ms, .withdrawals_max = 4, .seed = 1}};
    time_point now_{};
    std::set<std::string> asked_;
    std::set<std::uint64_t> waiting_;
    std::uint64_t opened_ = 0;
};

class links {
public:
    explicit links(std::uint64_t seed) : random_(seed) {
        for (std::uint32_t rank = 0; rank < 2; ++rank) {
            context_[rank].rank = writers_[rank].rank = {rank};
            context_[rank].incarnation = writers_[rank].incarnation = {rank};
        }
        for (auto steps = 0; steps < 60; ++steps)
            step();
        while (!sessions_.empty())
            forget();
        for (std::uint32_t rank = 0; rank < 2; ++rank)
            if (state_[rank] != none)
                happens(receiving_links::lost{{rank}, make_error(errc::stopped, "it leaves")},
                        rank);
        now_ += 1h;
        happens(receiving_links::tick{});
        CHECK(state_[0] == none);
        CHECK(state_[1] == none);
        CHECK_FALSE(value_.next()); // nobody is looked for any more
        CHECK(value_.sessions_of({0}).empty());
    }

private:
    enum link { none, dialling, up };

    void step() {
        const auto rank = below(random_, 2);
        switch (below(random_, 7)) {
        case 0:
            sessions_.insert(++bound_);
            return happens(receiving_links::session_bound{{bound_}, writers_, context_});
        case 1:
            return sessions_.empty() ? void() : forget();
        case 2:
            if (!sessions_.empty())
                happens(receiving_links::session_ended{{*sessions_.begin()}});
            return;
        case 3: {
            cancel_session message;
            message.header.request = {bound_};
            return happens(receiving_links::notice{&context_[rank], message});
        }
        case 4:
            if (state_[rank] != dialling)
                return;
            state_[rank] = up;
            return happens(receiving_links::linked{view_of(context_[rank])});
        case 5:
            if (state_[rank] == none)
                return;
            return happens(
                receiving_links::lost{
                    {rank},
                    make_error(below(random_, 4) == 0 ? errc::dial_failed : errc::link_lost,
                               "no route")},
                rank);
        default:
            now_ += 50ms;
            return happens(receiving_links::tick{});
        }
    }

    void forget() {
        const auto over = *sessions_.begin();
        sessions_.erase(sessions_.begin());
        happens(receiving_links::session_forgotten{{over}});
    }

    void check_open(const std::vector<kvferry::attempt>& sessions) const {
        CHECK_FALSE(sessions.empty());
        for (auto attempt : sessions)
            CHECK(sessions_.contains(attempt.value));
    }

    void happens(receiving_links::event event, std::optional<std::uint32_t> lost = {}) {
        if (lost)
            state_[*lost] = none;
        const auto binding = std::holds_alternative<receiving_links::session_bound>(event);
        std::ptrdiff_t ready = 0;
        for (const auto& effect : value_.on(std::move(event), now_)) {
            if (const auto* x = std::get_if<receiving_links::dial>(&effect))
                CHECK(std::exchange(state_[x->peer.rank.value], dialling) == none);
            if (const auto* x = std::get_if<receiving_links::send>(&effect))
                CHECK(state_[x->peer.value] == up);
            if (const auto* x = std::get_if<receiving_links::tell_ready>(&effect)) {
                CHECK(state_[x->peer->info.incarnation.value] == up);
                check_open(x->sessions);
            }
            if (const auto* x = std::get_if<receiving_links::is_ready>(&effect)) {
                CHECK(binding);
                CHECK(state_[x->peer->info.incarnation.value] == up);
                ++ready;
            }
            if (const auto* x = std::get_if<receiving_links::tell_lost>(&effect))
                check_open(x->sessions);
        }
        if (binding) // with its writers a session hears of every link that is up
            CHECK(ready == std::count(state_.begin(), state_.end(), up));
    }

    static peer_view_ptr view_of(const rank_info& rank) {
        auto result = std::make_shared<peer_view>();
        result->info = rank;
        return result;
    }

    std::mt19937_64 random_;
    receiving_links value_{{.notices_max = 3, .silence_max = 100ms, .seed = 1}};
    time_point now_{};
    std::vector<rank_info> context_{2};
    std::vector<writer_binding> writers_{2};
    std::set<std::uint64_t> sessions_;
    std::array<link, 2> state_{none, none};
    std::uint64_t bound_ = 0;
};

} // namespace

TEST_CASE("known_instances: in every order of events nobody is asked twice at a time, and whoever "
          "waits is bound or failed once (I6)") {
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
        CAPTURE(seed);
        instances order{seed};
    }
}

TEST_CASE("receiving_links: in every order of events nobody is dialled twice at a time, and only "
          "over a link that is up is anything said") {
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
        CAPTURE(seed);
        links order{seed};
    }
}
