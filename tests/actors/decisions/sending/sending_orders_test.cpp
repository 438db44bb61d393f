// SPDX-License-Identifier: Apache-2.0
// The events of a transfer in random orders: what must stay true stays true in each of them.
#include "tests/actors/decisions/sending/sending_world.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t ranks = 2;
constexpr std::uint32_t slices = 2;
constexpr std::uint32_t pieces_max = 3;

/// splitmix64: the same course on every machine.
class chance {
public:
    explicit chance(std::uint64_t seed) : state_(seed) {}

    std::uint32_t below(std::uint32_t bound) {
        auto x = state_ += 0x9e3779b97f4a7c15U;
        x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
        x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
        return static_cast<std::uint32_t>((x >> 32U) % bound);
    }

private:
    std::uint64_t state_;
};

/// All that ever happens to a session, made once.
struct materials {
    std::array<peer_view_ptr, ranks> peers{receiver_view(0), receiver_view(1)};
    caf::error cut = make_error(errc::transfer_failed, "wire cut");
    caf::error lost = make_error(errc::link_lost, "no link");
    caf::error stale = make_error(errc::stale_incarnation, "another process");
    caf::error cancelled = make_error(errc::cancelled, "the host cancelled");
    caf::error misfit = make_error(errc::layout_mismatch, "does not fit");
    caf::error doubt = make_error(errc::transfer_in_doubt, "no answer");
};

/// One session, what is under way for it, and what it has said so far.
class course {
public:
    course(const materials& with, std::uint64_t seed)
        : with_(with), chance_(seed),
          aux_(chance_.below(2) == 0 ? aux_mode::none : aux_mode::required),
          value_(make_sending(aux_)) {}

    void step() {
        if (planning_
            && chance_.below(8) != 0) // an actor answers at once; a value need not hear it so
            return answer_plan();
        switch (chance_.below(24)) {
        case 0:
        case 1:
        case 2:
            return send();
        case 3:
            return hear(send_aux{});
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
            return ask();
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
            return end_flight();
        case 15:
            return lose_link();
        case 16:
            return give_up();
        case 17:
            return hear(gone{header_from(rank(), 0, attempt()), side::context, {errc::gone, ""}});
        default:
            return rare();
        }
    }

    /// The deadline comes, and every transfer ends.
    void end() {
        hear(deadline_tick{});
        while (planning_)
            answer_plan();
        while (!flights_.empty())
            end_flight();
        check_end();
    }

    std::uint64_t events() const { return events_; }
    std::string_view violated() const { return violated_; }

private:
    struct flight {
        transfer_id transfer;
        receiver_key to;
        slice_index index;
    };

    /// What one receive(slice) of one rank has been told.
    struct heard {
        bool asked = false;
        bool last = false;
        std::array<std::optional<agent_result>, pieces_max + 2> kv;
        std::array<bool, pieces_max + 2> kv_on_this_link{};
        bool aux = false;
        bool aux_on_this_link = false;
        std::array<bool, pieces_max + 2> launched{};
    };

    std::uint32_t rank() { return chance_.below(ranks); }
    std::uint64_t attempt() { return chance_.below(8) == 0 ? 99 : 11; }
    void require(bool holds, std::string_view what) {
        if (!holds && violated_.empty())
            violated_ = what;
    }

    void send() {
        if (sent_ < pieces_max) {
            ++sent_;
            hear(slice_event(chance_.below(2) == 0));
        }
    }

    void ask() {
        const auto from = rank();
        const auto slice = chance_.below(slices);
        auto what = ask_event(with_.peers[from], ranks, slice, chance_.below(4) != 0);
        auto& request = what.ask.request;
        request.header.attempt = {attempt() + from};
        request.renewal = chance_.below(6) == 0;
        request.kv = chance_.below(6) != 0;
        request.aux = aux_ == aux_mode::required && chance_.below(2) == 0 ? aux_mode::required
                                                                          : aux_mode::none;
        if (chance_.below(16) == 0)
            what.problem = with_.misfit;
        const auto* known = value_.find({{from}, {slice}});
        const auto served = value_.attempt_of({from});
        if (known && known->is_lost() && served == request.header.attempt)
            new_link(from, slice);
        hear(std::move(what));
        if (value_.find({{from}, {slice}}))
            at({{from}, {slice}}).asked = true;
    }

    void answer_plan() {
        const auto plan = *planning_;
        planning_.reset();
        answered_ = {plan.to, plan.index};
        if (chance_.below(3) == 0)
            return hear(piece_end(plan.to, plan.index));
        hear(sending_events::piece_planned{
            plan.to, plan.index, {next_transfer_}, {route::direct, "direct"}, "fabric_io"});
    }

    sending_events::piece_ended piece_end(receiver_key to, slice_index index) {
        sending_events::piece_ended result{to, index};
        const auto how = chance_.below(12);
        if (how == 0)
            result.result = agent_result::failed;
        if (how == 1)
            result.result = agent_result::in_doubt;
        if (how <= 1)
            result.why = how == 1 ? with_.doubt : with_.cut;
        return result;
    }

    void end_flight() {
        if (flights_.empty())
            return;
        const auto which = chance_.below(static_cast<std::uint32_t>(flights_.size()));
        const auto ended = flights_[which];
        flights_.erase(flights_.begin() + which);
        const auto reported = tells_peer_;
        const auto unreachable = value_.find(ended.to)->is_lost();
        hear(piece_end(ended.to, ended.index));
        if (chance_.below(4) == 0) { // again (I7)
            const auto after = tells_;
            hear(piece_end(ended.to, ended.index));
            require(tells_ == after, "I7: a second end of one transfer is told to somebody");
        }
        require(tells_peer_ > reported || unreachable, "an end of a transfer is not reported");
    }

    void lose_link() {
        const auto from = rank();
        hear(peer_lost{{100 + from}, chance_.below(4) == 0 ? with_.stale : with_.lost, false});
    }

    void give_up() {
        const auto from = rank();
        const auto mine = attempt();
        const auto served = value_.attempt_of({from});
        if (served == kvferry::attempt{mine + from})
            for (std::uint32_t slice = 0; slice < slices; ++slice)
                if (const auto* known = value_.find({{from}, {slice}}); known && known->is_lost())
                    new_link(from, slice);
        hear(give_up_event(with_.peers[from], mine));
        if (!served || served == kvferry::attempt{mine + from})
            require(value_.has_ended(), "I9: a receiver's cancel ends nothing");
    }

    void rare() {
        switch (chance_.below(24)) {
        case 0:
            hear(cancel_request{with_.cancelled});
            return require(value_.has_ended(), "I9: the host's cancel ends nothing");
        case 1:
            hear(deadline_tick{});
            return require(value_.has_ended(), "I6: a deadline passes without an end");
        case 2:
            if (!value_.is_released())
                hear(owner_ended{});
            return;
        case 3:
            return hear(sending_events::failed{with_.cut});
        case 4:
            return hear(process_gone{{100 + rank()}});
        default:
            return hear(sending_events::piece_planned{{{rank()}, {0}}, {7}, {999}}); // never asked
        }
    }

    void new_link(std::uint32_t from, std::uint32_t slice) {
        at({{from}, {slice}}).kv_on_this_link = {};
        at({{from}, {slice}}).aux_on_this_link = false;
    }

    heard& at(const receiver_key& key) { return heard_[key.first.value][key.second.value]; }

    void hear(sending::event what) {
        const auto had_ended = value_.has_ended();
        const auto before = value_.state();
        ++events_;
        for (const auto& effect : value_.on(std::move(what), {}))
            std::visit([this](const auto& x) { see(x); }, effect);
        require(!had_ended || value_.state() == before, "I3: an outcome changes");
    }

    void see(const sending_effects::tell_peer& x) {
        ++tells_;
        ++tells_peer_;
        const auto rank = x.peer->info.rank.value;
        if (const auto* report = std::get_if<kv_agent_result>(&x.message))
            return see_report({{rank}, report->header.receive_slice}, *report);
        if (const auto* answer = std::get_if<refused>(&x.message)) // its only report
            at({{rank}, answer->header.receive_slice}).last = true;
        if (const auto* report = std::get_if<aux_agent_result>(&x.message)) {
            auto& known = at({{rank}, report->header.receive_slice});
            require(!std::exchange(known.aux_on_this_link, true), "I1: aux is reported twice");
            known.aux = true;
        }
    }

    void see_report(const receiver_key& to, const kv_agent_result& report) {
        auto& known = at(to);
        const auto index = report.header.piece.index.value;
        require(!std::exchange(known.kv_on_this_link.at(index), true),
                "I1: a piece is reported twice");
        require(!known.kv.at(index) || known.kv[index] == report.result, "I1: a report changes");
        known.kv[index] = report.result;
        known.last = known.last || report.header.piece.last;
        require(std::none_of(flights_.begin(), flights_.end(),
                             [&](const flight& x) { return x.to == to && x.index.value == index; }),
                "I2: a piece is reported while it moves");
    }

    void see(const sending_effects::tell_host& x) {
        ++tells_;
        if (const auto* piece = std::get_if<piece_finished>(&x.message)) {
            if (piece->kind == payload_kind::kv)
                require(++piece_told_.at(piece->index.value) == 1,
                        "I1: the host hears twice of a piece");
        } else if (std::holds_alternative<session_finished>(x.message)) {
            require(++outcomes_ == 1, "I3: a second outcome");
        } else if (std::holds_alternative<session_released>(x.message)) {
            require(++releases_ == 1, "a second release");
            require(outcomes_ == 1, "a release before the outcome");
            require(flights_.empty(), "I2: source pages are given back while they are read");
        }
    }

    void see(const sending_effects::tell_owner& x) {
        ++tells_;
        if (std::holds_alternative<session_retired>(x.message))
            require(releases_ == 1, "retired before it is released");
    }

    void see(const sending_effects::plan_piece& x) {
        require(!planning_, "two pieces are planned at once");
        require(outcomes_ == 0, "a piece is planned after the outcome");
        planning_ = flight{{}, x.to, x.index};
    }

    void see(const sending_effects::launch_piece& x) {
        require(x.transfer.value == next_transfer_, "something else is launched than was planned");
        require(outcomes_ == 0 && releases_ == 0, "I2: a piece is launched after the outcome");
        ++next_transfer_;
        const auto& [to, index] = answered_;
        at(to).launched.at(index.value) = true;
        flights_.push_back({x.transfer, to, index});
    }

    void see(const sending_effects::cancel_piece& x) {
        require(std::any_of(flights_.begin(), flights_.end(),
                            [&](const flight& each) { return each.transfer == x.transfer; }),
                "a transfer is cancelled that does not move");
    }

    void see(const sending_effects::count_ignored&) {}
    void see(const sending_effects::quit&) {
        require(releases_ == 1, "it quits before its release");
    }

    void check_end() {
        require(outcomes_ == 1, "I6: no outcome");
        require(releases_ == 1, "I6: nothing is released");
        for (std::uint32_t index = 0; index < sent_; ++index)
            require(piece_told_[index] == 1, "I6: a piece of the host does not end");
        for (std::uint32_t rank = 0; rank < ranks; ++rank)
            for (std::uint32_t slice = 0; slice < slices; ++slice) {
                const auto* receiver = value_.find({{rank}, {slice}});
                if (!receiver || receiver->is_lost() || !receiver->request().kv)
                    continue;
                const auto& known = heard_[rank][slice];
                require(known.last, "I6: a receiver is never told that no more pieces come");
                for (std::size_t index = 0; index < known.launched.size(); ++index)
                    require(!known.launched[index] || known.kv[index].has_value(),
                            "I1: a piece is never reported");
            }
    }

    const materials& with_;
    chance chance_;
    aux_mode aux_;
    sending value_;
    std::uint64_t events_ = 0;
    std::uint64_t tells_ = 0;
    std::uint64_t tells_peer_ = 0;
    std::uint32_t sent_ = 0;
    std::optional<flight> planning_;
    std::pair<receiver_key, slice_index> answered_;
    std::uint64_t next_transfer_ = 0;
    std::vector<flight> flights_;
    std::array<std::array<heard, slices>, ranks> heard_;
    std::array<int, pieces_max + 1> piece_told_{};
    int outcomes_ = 0;
    int releases_ = 0;
    std::string_view violated_;
};

/// Events that were heard in all.
std::uint64_t run_courses(std::uint64_t first, std::uint64_t count) {
    const materials with;
    std::uint64_t events = 0;
    for (auto seed = first; seed < first + count; ++seed) {
        course each{with, seed};
        const auto steps = 4 + seed % 40;
        for (std::uint64_t step = 0; step < steps; ++step)
            each.step();
        each.end();
        events += each.events();
        if (!each.violated().empty())
            FAIL(each.violated() << " (seed " << seed << ")");
    }
    return events;
}

} // namespace

TEST_CASE("sending: in every order of events each piece is reported once and after its end, the "
          "outcome comes once, and pages go back when nothing reads them (I1 I2 I3 I6 I7 I9)") {
    CHECK(run_courses(0, 50000) > 500000);
}

TEST_CASE("sending: events per second" * doctest::skip()) {
    const auto began = std::chrono::steady_clock::now();
    const auto events = run_courses(1000000, 200000);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    MESSAGE(events << " events, " << static_cast<std::uint64_t>(events / took.count())
                   << " per second, checks included");
}
