// SPDX-License-Identifier: Apache-2.0
// Random orders of everything that can happen to a receiving attempt, against writers whose truth
// is known: what they were told, what they still write, what they have said.
//
// Held here: I1 (each piece and the session end once), I2 (no release while a writer may write), I3
// (an outcome never changes), I6 (a deadline always ends it), I7 (what is late, twice, unknown or
// contradictory changes nothing and is counted), I8 (so does what a stranger says), I9 (a second
// cancel does nothing), I11 (aux comes with the outcome). I4 and I5 are the planner's.
#include "tests/actors/decisions/receiving/receiving_events.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

class dice {
public:
    explicit dice(std::uint64_t seed) : state_(seed) {}

    std::uint32_t below(std::uint32_t bound) {
        state_ += 0x9e3779b97f4a7c15; // splitmix64
        auto x = state_;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return static_cast<std::uint32_t>((((x ^ (x >> 31)) >> 32) * bound) >> 32);
    }
    bool one_in(std::uint32_t n) { return below(n) == 0; }

private:
    std::uint64_t state_;
};

constexpr std::uint32_t slices_max = 2;
constexpr std::uint32_t pieces_max = 3;

/// One slice as its writer knows it.
struct slice_truth {
    enum : std::uint8_t { unknown, in_link, arrived, refused } request = unknown;
    std::uint32_t ended = 0; // bit per piece
    std::uint32_t said = 0;
    bool well = true;
};

struct writer_truth {
    writer_binding binding = {};
    bool up = false;
    bool alive = true;
    bool told_to_map = false;
    bool in_doubt = false;
    /// Of its messages alone: the fabric can shut these out.
    bool messages_in_doubt = false;
    bool heard_cancel = false;
    bool aux_said = false;
    std::array<slice_truth, slices_max> slices = {};
};

class orders {
public:
    explicit orders(std::uint64_t seed)
        : random_(seed), by_message_(random_.one_in(2)),
          aux_(random_.one_in(3) ? aux_mode::required : aux_mode::none),
          slices_(1 + random_.below(slices_max)), pieces_(1 + random_.below(pieces_max)),
          value_(facts_of_attempt(aux_, by_message_)) {
        relay_ = static_cast<role>(random_.below(4));
        const auto groups = relay_ < role::taker ? 1 + random_.below(2) : 1;
        const auto per_group = 1 + random_.below(2);
        for (std::uint32_t rank = 0; rank < groups * per_group; ++rank) {
            const auto first = rank % per_group == 0;
            writers_.push_back({.binding = writer(rank, true, first && aux_ == aux_mode::required,
                                                  rank / per_group)});
        }
        if (relay_ == role::taker) {
            const auto rank = static_cast<std::uint32_t>(writers_.size());
            writers_.push_back({.binding = sibling(rank, aux_ == aux_mode::required)});
        }
        for (auto steps = 30 + random_.below(90); steps > 0 && !released_; --steps)
            step();
        happens(deadline_tick{});
        require(outcome_.has_value(), "the deadline ends it (I6)");
        if (std::exchange(lends_, false))
            happens(relay_over{});
        for (auto& each : writers_) {
            each.alive = each.up = false;
            happens(process_gone{each.binding.incarnation});
        }
        require(released_, "dead writers hold nothing");
        require(value_.on(report(0), {}).empty(), "nothing follows the release");
    }

    std::uint64_t events() const { return events_; }
    session_state outcome() const { return *outcome_; }

private:
    static void require(bool holds, const char* what) {
        if (!holds)
            FAIL(std::string{what});
    }

    void step() {
        auto& at = writers_[random_.below(static_cast<std::uint32_t>(writers_.size()))];
        const auto rank = at.binding.rank.value;
        const auto number = random_.below(slices_);
        auto& slice = at.slices[number];
        switch (random_.below(34)) {
        case 32:
            if (random_.one_in(4))
                happens(relay_overdue{});
            return;
        case 33:
            if (lends_ && (relay_ended_ || random_.one_in(16))) { // or none could be opened
                lends_ = false;
                happens(relay_over{});
            }
            return;
        case 0:
        case 1:
            return host_gives();
        case 2:
        case 3:
            if (!bound_)
                bind_all();
            return;
        case 4:
        case 5:
        case 6:
            return link_up(at);
        case 7:
            return random_.one_in(3) ? link_lost(at) : void();
        case 8:
            if (random_.one_in(4) && at.alive) {
                at.alive = at.up = false;
                happens(process_gone{at.binding.incarnation});
            }
            return;
        case 9:
            if (slice.request == slice_truth::arrived)
                happens(transfer_started{header_from(rank, payload_kind::kv, number)});
            return;
        case 10:
            if (at.up && at.binding.aux && slice.request == slice_truth::arrived) {
                at.aux_said = true;
                happens(aux_report(rank, random_.one_in(16) ? agent_result::failed
                                                            : agent_result::success));
            }
            return;
        case 11:
            return stranger_speaks();
        case 12:
            return refuse(at, number);
        case 13:
            happens(keep_session{});
            return happens(renew_requests{});
        case 14:
            return rarely_ends(at);
        case 15:
            return answer_forbid();
        case 16:
            return say_again(at, number);
        default:
            return end_piece(at, number);
        }
    }

    void host_gives() {
        if (given_ < slices_)
            happens(slice_of(++given_ == slices_));
    }

    static const receive_slice& slice_of(bool last) {
        static const std::array both{slice(false), slice(true)};
        return both[last ? 1 : 0];
    }

    void bind_all() {
        bound_ = true;
        bind_writers message;
        for (const auto& each : writers_)
            if (each.binding.sibling)
                message.relay = relay_binding{{each.binding}, 5};
            else
                message.writers.push_back(each.binding);
        for (auto& each : message.writers)
            each.held_back = relay_ == role::taker;
        if (relay_ == role::giver)
            message.relay = relay_binding{{}, 5, true};
        happens(std::move(message));
    }

    void link_up(writer_truth& at) {
        if (!bound_ || at.up || !at.alive)
            return;
        at.up = true;
        happens(receiving::writer_linked{at.binding.incarnation, random_.one_in(2), false});
    }

    void link_lost(writer_truth& at) {
        if (!at.up)
            return;
        at.up = false;
        happens(lost(at.binding.rank.value, random_.one_in(5) ? errc::stopped : errc::link_lost,
                     random_.one_in(2)));
        for (auto& each : at.slices)
            if (each.request == slice_truth::in_link) {
                each.request = slice_truth::unknown;
                happens(receiving::request_never_left{at.binding.incarnation});
            }
        // Whoever has heard of no page was not told to write through a mapping either.
        if (std::all_of(at.slices.begin(), at.slices.end(),
                        [](const auto& x) { return x.request == slice_truth::unknown; }))
            at.told_to_map = false;
    }

    void end_piece(writer_truth& at, std::uint32_t number) {
        auto& slice = at.slices[number];
        if (slice.request == slice_truth::in_link)
            slice.request = slice_truth::arrived;
        const auto piece = random_.below(pieces_);
        if (!at.up || slice.request != slice_truth::arrived || (slice.ended >> piece) & 1)
            return;
        auto how = agent_result::success;
        if (random_.one_in(24))
            how = random_.one_in(3) ? agent_result::in_doubt : agent_result::failed;
        auto said = report(at.binding.rank.value, {{piece}, piece + 1 == pieces_}, how, number);
        said.by_messages = how == agent_result::in_doubt && random_.one_in(2);
        if (how == agent_result::in_doubt)
            (said.by_messages ? at.messages_in_doubt : at.in_doubt) = true;
        slice.well = slice.well && how == agent_result::success;
        slice.ended |= 1U << piece;
        slice.said |= 1U << piece;
        happens(said);
    }

    /// Twice, or behind the last piece: neither changes anything.
    void say_again(writer_truth& at, std::uint32_t number) {
        auto& slice = at.slices[number];
        if (!at.up || slice.said == 0)
            return;
        std::uint32_t piece = 0;
        while (((slice.said >> piece) & 1) == 0)
            ++piece;
        changes_nothing(report(at.binding.rank.value, {{piece}, piece + 1 == pieces_},
                               agent_result::success, number));
        if ((slice.said >> (pieces_ - 1)) & 1)
            changes_nothing(
                report(at.binding.rank.value, {{pieces_}, true}, agent_result::success, number));
    }

    void refuse(writer_truth& at, std::uint32_t number) {
        auto& slice = at.slices[number];
        if (!at.up || !random_.one_in(4))
            return;
        if (at.heard_cancel && !writes(at)) { // it has nothing in flight and forgets the attempt
            for (auto& each : at.slices)
                each.request = slice_truth::refused;
            return happens(gone_from(at.binding.rank.value, payload_kind::none));
        }
        if (slice.request != slice_truth::arrived || slice.ended != 0)
            return;
        slice.request = slice_truth::refused;
        if (random_.one_in(2))
            happens(gone_from(at.binding.rank.value, payload_kind::kv, number));
        else
            happens(refused_by(at.binding.rank.value, errc::layout_mismatch, number));
    }

    void rarely_ends(writer_truth& at) {
        switch (random_.below(12)) {
        case 0:
            happens(cancel_request{});
            return changes_nothing(cancel_request{}); // I9
        case 1:
            return happens(deadline_tick{});
        case 2:
            return happens(owner_ended{});
        case 3:
            return at.up ? happens(cancelled_by(at.binding.rank.value)) : void();
        default:
            return;
        }
    }

    void answer_forbid() {
        if (!forbid_asked_)
            return;
        shut_ = by_message_;
        happens(receiving::writes_forbidden{});
    }

    void stranger_speaks() {
        switch (random_.below(4)) {
        case 0:
            return changes_nothing(report(50));
        case 1:
            return changes_nothing(cancelled_by(50));
        case 2:
            return changes_nothing(gone_from(50, payload_kind::none));
        default:
            return changes_nothing(process_gone{process_of(50)});
        }
    }

    // -- what is demanded -----------------------------------------------------------------------

    /// It may change pages of this rank, now or later.
    bool writes(const writer_truth& at) const {
        if (!at.alive || (shut_ && !at.told_to_map))
            return false;
        if (at.in_doubt || (at.messages_in_doubt && !shut_))
            return true;
        for (std::uint32_t number = 0; number < slices_; ++number) {
            const auto& slice = at.slices[number];
            if (slice.request == slice_truth::in_link
                || (slice.request == slice_truth::arrived && slice.ended + 1 != 1U << pieces_))
                return true;
        }
        return false;
    }

    void changes_nothing(receiving::event event) {
        const auto before = value_.now_in().index();
        const auto effects = value_.on(std::move(event), {});
        ++events_;
        for (const auto& each : effects)
            require(std::holds_alternative<receiving::ignore_message>(each), "it is ignored (I7)");
        require(value_.now_in().index() == before, "the state stays (I7)");
    }

    void happens(receiving::event event) {
        ++events_;
        for (const auto& effect : value_.on(std::move(event), {})) {
            require(!retired_, "nothing follows session_retired");
            std::visit([this](const auto& x) { check(x); }, effect);
        }
        if (outcome_)
            require(value_.state() == *outcome_, "the outcome stays (I3)");
    }

    void check(const receiving::ask_writer& x) {
        auto& at = writers_[x.request.header.writer.value];
        auto& slice = at.slices[x.request.header.receive_slice.value];
        require(at.up && !outcome_, "who is asked has a link, and the session has not ended");
        require(x.request.header.relay == at.binding.sibling, "siblings hear that they are meant");
        require(given_up_ || relay_ != role::taker || at.binding.sibling,
                "the context sends nothing that a sibling hands on");
        if (!x.request.kv) {
            require(x.request.relayed, "each of them carries KV, unless it came otherwise");
            require((pieces_told_ >> x.request.header.receive_slice.value) & 1,
                    "what came otherwise is here");
            return;
        }
        require(allowed_, "the fabric lets it in");
        at.told_to_map = at.told_to_map || x.request.may_map;
        if (slice.request == slice_truth::unknown)
            slice.request = slice_truth::in_link;
    }
    void check(const receiving::cancel_writer& x) {
        auto& at = writers_[x.message.header.writer.value];
        require(at.up, "who is told has a link");
        at.heard_cancel = true;
    }
    void check(const receiving::keep_writer& x) {
        const auto& at = writers_[x.message.header.writer.value];
        require(at.up && !outcome_, "who is told that it is wanted has a link");
        require(at.slices[0].request == slice_truth::unknown, "who was asked knows it");
    }
    void check(const receiving::open_relay&) {
        require(relay_ == role::giver && !std::exchange(lends_, true), "opened once");
        relay_ended_ = false;
    }
    void check(const receiving::hand_on& x) {
        require(lends_ && !relay_ended_, "it can be handed on");
        require((pieces_told_ >> handed_on_) & 1, "what is handed on is here");
        require(x.slice.last == (++handed_on_ == slices_), "in its order");
    }
    void check(const receiving::hand_on_aux&) {
        require(lends_ && !relay_ended_, "it can be handed on");
    }
    void check(const receiving::extend_relay&) {
        require(lends_ && !relay_ended_, "what is extended lives");
    }
    void check(const receiving::end_relay&) {
        require(lends_, "it was opened");
        relay_ended_ = true;
    }
    void check(const receiving::relay_given_up&) {
        require(relay_ == role::taker && !std::exchange(given_up_, true), "given up once");
    }
    void check(const layers_arrived&) { require(false, "nobody wants to hear of layers"); }
    void check(const session_extended&) { require(!outcome_, "only what lives is extended"); }
    void check(const receiving::ignore_message&) {}
    void check(const allow_writes&) { require(!std::exchange(allowed_, true), "allowed once"); }
    void check(const forbid_writes&) {
        require(outcome_ && allowed_ && !std::exchange(forbid_asked_, true), "forbidden once");
    }
    void check(const piece_finished& x) {
        const auto bit = 1U << x.index.value;
        require((pieces_told_ & bit) == 0, "a piece ends once (I1)");
        pieces_told_ |= bit;
        if (x.error)
            return;
        auto by_sibling = false;
        for (const auto& each : writers_)
            by_sibling = by_sibling || (each.binding.sibling && has_served(each, x.index.value));
        for (const auto& each : writers_)
            if (!by_sibling && !each.binding.sibling
                && each.binding.dp_rank == group_.value_or(each.binding.dp_rank))
                require(has_served(each, x.index.value), "a piece arrived with all its bytes");
    }
    void check(const session_finished& x) {
        require(!outcome_, "it ends once (I1)");
        outcome_ = x.state;
        require((x.state >= session_state::error) == static_cast<bool>(x.error),
                "a failure has a reason");
        require(pieces_told_ + 1 == 1U << given_, "each piece has its end before the session");
        if (x.state == session_state::fully_transferred)
            require(!x.aux.first_tokens.empty(), "the aux record comes with it (I11)");
        require(x.state != session_state::kv_transferred || aux_ == aux_mode::none,
                "it waits for the aux record");
    }
    void check(const session_released&) {
        require(outcome_ && !std::exchange(released_, true), "released once, after the outcome");
        require(!lends_, "nobody reads what is given back");
        for (const auto& each : writers_)
            require(!writes(each), "nobody writes into pages that are given back (I2)");
    }
    void check(const session_transferring& x) {
        require(!std::exchange(group_, x.context_dp_rank), "it begins once");
    }
    void check(const session_ended& x) {
        require(outcome_ && !std::exchange(ended_, true), "told once");
        require(x.relayed.empty() || (relay_ == role::taker && !given_up_ && x.untold.empty()),
                "the context hears of what a sibling has brought");
        if (lends_ && *outcome_ < session_state::error) {
            require(handed_on_ == slices_, "all of it was handed on");
            relay_ended_ = true; // by itself, once siblings have it
        }
        require(!lends_ || relay_ended_, "a failure ends it");
    }
    void check(const session_retired&) { retired_ = released_; }

    bool has_served(const writer_truth& at, std::uint32_t number) const {
        return at.slices[number].said + 1 == 1U << pieces_ && at.slices[number].well;
    }

    /// Two of four orders know no siblings.
    enum class role : std::uint8_t { none, none_either, taker, giver };

    dice random_;
    role relay_ = role::none;
    /// Siblings may read its pages; nothing more is handed on to them.
    bool lends_ = false;
    bool relay_ended_ = false;
    std::uint32_t handed_on_ = 0;
    bool given_up_ = false;
    bool by_message_;
    aux_mode aux_;
    std::uint32_t slices_;
    std::uint32_t pieces_;
    receiving value_;
    std::vector<writer_truth> writers_;
    std::uint32_t given_ = 0;
    std::uint32_t pieces_told_ = 0;
    std::uint64_t events_ = 0;
    std::optional<std::uint32_t> group_;
    std::optional<session_state> outcome_;
    bool bound_ = false;
    bool allowed_ = false;
    bool forbid_asked_ = false;
    bool shut_ = false;
    bool ended_ = false;
    bool released_ = false;
    bool retired_ = false;
};

} // namespace

TEST_CASE("receiving: in every order of events it ends once, and frees only what nobody writes") {
    constexpr std::uint64_t wanted = 500'000;
    std::uint64_t events = 0;
    std::uint64_t seed = 0;
    std::map<session_state, std::uint64_t> outcomes;
    const auto begin = std::clock();
    for (; events < wanted; ++seed) {
        CAPTURE(seed);
        const orders order{seed};
        events += order.events();
        ++outcomes[order.outcome()];
    }
    const auto seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    for (auto outcome : {session_state::kv_transferred, session_state::fully_transferred,
                         session_state::cancelled, session_state::error})
        CHECK(outcomes[outcome] > seed / 100);
    MESSAGE(events, " events in ", seed, " orders, ",
            static_cast<std::uint64_t>(static_cast<double>(events) / seconds), " a second");
}
