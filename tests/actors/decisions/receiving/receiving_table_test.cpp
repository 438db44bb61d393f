// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt answers to every event in every state: a pair without a row fails.
//
// Writer 0 owes KV, writer 1 KV and the aux record; both are of one DP group. Writer 0 is linked
// and can only send messages, writer 1 has no link yet. One slice was lent, and it is the last.
#include "actors/shared/behind_all_pieces.hpp"
#include "tests/actors/decisions/receiving/receiving_events.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

receiving in(std::string_view state) {
    receiving result{facts_of_attempt(aux_mode::required)};
    const auto happens = [&result](receiving::event x) { result.on(std::move(x), {}); };
    if (state == "unbound")
        return result;
    happens(bind({writer(0), writer(1, true, true)}));
    happens(receiving::writer_linked{process_of(0), false, false});
    happens(slice());
    if (state == "waiting")
        return result;
    happens(transfer_started{header_from(0)});
    if (state == "transferring")
        return result;
    happens(cancel_request{});
    if (state == "ended")
        return result;
    happens(receiving::writes_forbidden{});
    return result;
}

const std::vector<std::pair<std::string_view, receiving::event>>& events() {
    static const std::vector<std::pair<std::string_view, receiving::event>> all{
        {"slice", slice()},
        {"slice without tokens", receive_slice{}},
        {"bind", bind({writer(0), writer(1, true, true)})},
        {"bind nobody", bind_writers{}},
        {"bind failed", bind_writers{{}, make_error(errc::dial_failed, "nobody there")}},
        {"link 0", receiving::writer_linked{process_of(0), true, false}},
        {"link 1", receiving::writer_linked{process_of(1), true, false}},
        {"link of a stranger", receiving::writer_linked{process_of(5), true, false}},
        {"lost 0", lost(0)},
        {"lost 0, dialled again", lost(0, errc::link_lost, true)},
        {"left 0", lost(0, errc::stopped)},
        {"process 0 gone", process_gone{process_of(0)}},
        {"process 1 gone", process_gone{process_of(1)}},
        {"started 0", transfer_started{header_from(0)}},
        {"started 1", transfer_started{header_from(1)}},
        {"report 0", report(0)},
        {"report 0, more follows", report(0, {{0}, false})},
        {"report 0 failed", report(0, {{0}, true}, agent_result::failed)},
        {"report 0 in doubt", report(0, {{0}, true}, agent_result::in_doubt)},
        {"report 1", report(1)},
        {"aux 1", aux_report(1)},
        {"aux 1 failed", aux_report(1, agent_result::failed)},
        {"aux 0", aux_report(0)},
        {"cancel by 0", cancelled_by(0)},
        {"cancel by a stranger", cancelled_by(5)},
        {"gone 0", gone_from(0)},
        {"gone 0 for a cancel", gone_from(0, payload_kind::none)},
        {"refused by 0", refused_by(0)},
        {"renew", renew_requests{}},
        {"keep", keep_session{}},
        {"host extends", extend_session{std::chrono::seconds{30}}},
        {"host cancels", cancel_request{}},
        {"deadline", deadline_tick{}},
        {"receiver died", owner_ended{}},
        {"carrier failed", receiving::carrier_failed{make_error(errc::handler_failed, "thrown")}},
        {"request to 0 never left", receiving::request_never_left{process_of(0)}},
        {"forbidden", receiving::writes_forbidden{}},
        {"relay overdue", relay_overdue{}},
        {"relay over", relay_over{}},
    };
    return all;
}

constexpr std::array states{"unbound", "waiting", "transferring", "ended", "released"};

/// state | event | effects | the state after it
constexpr std::string_view table = R"(
unbound | slice | | unbound
unbound | slice without tokens | | unbound
unbound | bind | | waiting
unbound | bind nobody | | waiting
unbound | bind failed | ERROR (dial_failed); ended; released; retired | released
unbound | link 0 | | unbound
unbound | link 1 | | unbound
unbound | link of a stranger | | unbound
unbound | lost 0 | | unbound
unbound | lost 0, dialled again | | unbound
unbound | left 0 | | unbound
unbound | process 0 gone | | unbound
unbound | process 1 gone | | unbound
unbound | started 0 | ignore unasked | unbound
unbound | started 1 | ignore unasked | unbound
unbound | report 0 | ignore foreign_rank | unbound
unbound | report 0, more follows | ignore foreign_rank | unbound
unbound | report 0 failed | ignore foreign_rank | unbound
unbound | report 0 in doubt | ignore foreign_rank | unbound
unbound | report 1 | ignore foreign_rank | unbound
unbound | aux 1 | ignore foreign_rank | unbound
unbound | aux 1 failed | ignore foreign_rank | unbound
unbound | aux 0 | ignore foreign_rank | unbound
unbound | cancel by 0 | ignore foreign_rank | unbound
unbound | cancel by a stranger | ignore foreign_rank | unbound
unbound | gone 0 | ignore foreign_rank | unbound
unbound | gone 0 for a cancel | ignore foreign_rank | unbound
unbound | refused by 0 | ignore foreign_rank | unbound
unbound | renew | | unbound
unbound | keep | | unbound
unbound | host extends | extended by 30000 ms | unbound
unbound | host cancels | CANCELLED (cancelled); ended; released; retired | released
unbound | deadline | ERROR (deadline_exceeded); ended; released; retired | released
unbound | receiver died | ERROR (handler_failed); ended; released; retired | released
unbound | carrier failed | ERROR (handler_failed); ended; released; retired | released
unbound | request to 0 never left | | unbound
unbound | forbidden | | unbound
unbound | relay overdue | | unbound
unbound | relay over | | unbound
waiting | slice | piece 0 (invalid_argument); piece 1 (invalid_argument); cancel 0 (invalid_argument); ERROR (invalid_argument); ended untold 1; forbid | ended
waiting | slice without tokens | piece 0 (invalid_argument); piece 1 (invalid_argument); cancel 0 (invalid_argument); ERROR (invalid_argument); ended untold 1; forbid | ended
waiting | bind | | waiting
waiting | bind nobody | | waiting
waiting | bind failed | piece 0 (dial_failed); cancel 0 (dial_failed); ERROR (dial_failed); ended untold 1; forbid | ended
waiting | link 0 | | waiting
waiting | link 1 | ask 1 | waiting
waiting | link of a stranger | | waiting
waiting | lost 0 | piece 0 (link_lost); ERROR (link_lost); ended untold 0 untold 1; forbid | ended
waiting | lost 0, dialled again | | waiting
waiting | left 0 | piece 0 (stopped); ERROR (stopped); ended untold 1; forbid | ended
waiting | process 0 gone | piece 0 (peer_gone); ERROR (peer_gone); ended untold 1; forbid; released; retired | released
waiting | process 1 gone | piece 0 (peer_gone); cancel 0 (peer_gone); ERROR (peer_gone); ended; forbid | ended
waiting | started 0 | group 0 begins | transferring
waiting | started 1 | ignore unasked | waiting
waiting | report 0 | group 0 begins | transferring
waiting | report 0, more follows | group 0 begins | transferring
waiting | report 0 failed | group 0 begins; piece 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid; released; retired | released
waiting | report 0 in doubt | group 0 begins; piece 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid | ended
waiting | report 1 | ignore unasked | waiting
waiting | aux 1 | group 0 begins | transferring
waiting | aux 1 failed | group 0 begins; piece 0 (transfer_failed); cancel 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid | ended
waiting | aux 0 | ignore foreign_rank | waiting
waiting | cancel by 0 | piece 0 (cancelled); cancel 0 (cancelled); CANCELLED (cancelled); ended untold 1; forbid | ended
waiting | cancel by a stranger | ignore foreign_rank | waiting
waiting | gone 0 | piece 0 (gone); cancel 0 (gone); ERROR (gone); ended untold 1; forbid; released; retired | released
waiting | gone 0 for a cancel | piece 0 (gone); cancel 0 (gone); ERROR (gone); ended untold 1; forbid; released; retired | released
waiting | refused by 0 | piece 0 (layout_mismatch); cancel 0 (layout_mismatch); ERROR (layout_mismatch); ended untold 1; forbid; released; retired | released
waiting | renew | renew 0 | waiting
waiting | keep | | waiting
waiting | host extends | extended by 30000 ms | waiting
waiting | host cancels | piece 0 (cancelled); cancel 0 (cancelled); CANCELLED (cancelled); ended untold 1; forbid | ended
waiting | deadline | piece 0 (deadline_exceeded); cancel 0 (deadline_exceeded); ERROR (deadline_exceeded); ended untold 1; forbid | ended
waiting | receiver died | piece 0 (handler_failed); cancel 0 (handler_failed); ERROR (handler_failed); ended untold 1; forbid | ended
waiting | carrier failed | piece 0 (handler_failed); cancel 0 (handler_failed); ERROR (handler_failed); ended untold 1; forbid | ended
waiting | request to 0 never left | | waiting
waiting | forbidden | | waiting
waiting | relay overdue | | waiting
waiting | relay over | | waiting
transferring | slice | piece 0 (invalid_argument); piece 1 (invalid_argument); cancel 0 (invalid_argument); ERROR (invalid_argument); ended untold 1; forbid | ended
transferring | slice without tokens | piece 0 (invalid_argument); piece 1 (invalid_argument); cancel 0 (invalid_argument); ERROR (invalid_argument); ended untold 1; forbid | ended
transferring | bind | | transferring
transferring | bind nobody | | transferring
transferring | bind failed | piece 0 (dial_failed); cancel 0 (dial_failed); ERROR (dial_failed); ended untold 1; forbid | ended
transferring | link 0 | | transferring
transferring | link 1 | ask 1 | transferring
transferring | link of a stranger | | transferring
transferring | lost 0 | piece 0 (link_lost); ERROR (link_lost); ended untold 0 untold 1; forbid | ended
transferring | lost 0, dialled again | piece 0 (link_lost); ERROR (link_lost); ended untold 0 untold 1; forbid | ended
transferring | left 0 | piece 0 (stopped); ERROR (stopped); ended untold 1; forbid | ended
transferring | process 0 gone | piece 0 (peer_gone); ERROR (peer_gone); ended untold 1; forbid; released; retired | released
transferring | process 1 gone | piece 0 (peer_gone); cancel 0 (peer_gone); ERROR (peer_gone); ended; forbid | ended
transferring | started 0 | | transferring
transferring | started 1 | ignore unasked | transferring
transferring | report 0 | | transferring
transferring | report 0, more follows | | transferring
transferring | report 0 failed | piece 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid; released; retired | released
transferring | report 0 in doubt | piece 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid | ended
transferring | report 1 | ignore unasked | transferring
transferring | aux 1 | | transferring
transferring | aux 1 failed | piece 0 (transfer_failed); cancel 0 (transfer_failed); ERROR (transfer_failed); ended untold 1; forbid | ended
transferring | aux 0 | ignore foreign_rank | transferring
transferring | cancel by 0 | piece 0 (cancelled); cancel 0 (cancelled); CANCELLED (cancelled); ended untold 1; forbid | ended
transferring | cancel by a stranger | ignore foreign_rank | transferring
transferring | gone 0 | piece 0 (gone); cancel 0 (gone); ERROR (gone); ended untold 1; forbid; released; retired | released
transferring | gone 0 for a cancel | piece 0 (gone); cancel 0 (gone); ERROR (gone); ended untold 1; forbid; released; retired | released
transferring | refused by 0 | piece 0 (layout_mismatch); cancel 0 (layout_mismatch); ERROR (layout_mismatch); ended untold 1; forbid; released; retired | released
transferring | renew | renew 0 | transferring
transferring | keep | | transferring
transferring | host extends | extended by 30000 ms | transferring
transferring | host cancels | piece 0 (cancelled); cancel 0 (cancelled); CANCELLED (cancelled); ended untold 1; forbid | ended
transferring | deadline | piece 0 (deadline_exceeded); cancel 0 (deadline_exceeded); ERROR (deadline_exceeded); ended untold 1; forbid | ended
transferring | receiver died | piece 0 (handler_failed); cancel 0 (handler_failed); ERROR (handler_failed); ended untold 1; forbid | ended
transferring | carrier failed | piece 0 (handler_failed); cancel 0 (handler_failed); ERROR (handler_failed); ended untold 1; forbid | ended
transferring | request to 0 never left | | transferring
transferring | forbidden | | transferring
transferring | relay overdue | | transferring
transferring | relay over | | transferring
ended | slice | piece 1 (cancelled) | ended
ended | slice without tokens | piece 1 (cancelled) | ended
ended | bind | | ended
ended | bind nobody | | ended
ended | bind failed | | ended
ended | link 0 | | ended
ended | link 1 | | ended
ended | link of a stranger | | ended
ended | lost 0 | | ended
ended | lost 0, dialled again | | ended
ended | left 0 | | ended
ended | process 0 gone | released; retired | released
ended | process 1 gone | | ended
ended | started 0 | | ended
ended | started 1 | ignore unasked | ended
ended | report 0 | released; retired | released
ended | report 0, more follows | | ended
ended | report 0 failed | released; retired | released
ended | report 0 in doubt | | ended
ended | report 1 | ignore unasked | ended
ended | aux 1 | ignore late | ended
ended | aux 1 failed | ignore late | ended
ended | aux 0 | ignore foreign_rank | ended
ended | cancel by 0 | ignore late | ended
ended | cancel by a stranger | ignore foreign_rank | ended
ended | gone 0 | released; retired | released
ended | gone 0 for a cancel | released; retired | released
ended | refused by 0 | released; retired | released
ended | renew | | ended
ended | keep | | ended
ended | host extends | | ended
ended | host cancels | | ended
ended | deadline | | ended
ended | receiver died | | ended
ended | carrier failed | | ended
ended | request to 0 never left | released; retired | released
ended | forbidden | released; retired | released
ended | relay overdue | | ended
ended | relay over | | ended
released | any event | | released
)";

struct row {
    std::string effects;
    std::string after;
    bool used = false;
};

std::string trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(' ');
    const auto last = text.find_last_not_of(' ');
    return first == text.npos ? std::string{} : std::string{text.substr(first, last - first + 1)};
}

std::map<std::pair<std::string, std::string>, row> rows() {
    std::map<std::pair<std::string, std::string>, row> result;
    std::istringstream lines{std::string{table}};
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string> cells;
        std::istringstream parts{line};
        for (std::string cell; std::getline(parts, cell, '|');)
            cells.push_back(trimmed(cell));
        if (cells.size() == 4)
            CHECK_MESSAGE(
                result.emplace(std::pair{cells[0], cells[1]}, row{cells[2], cells[3], false})
                    .second,
                "two rows: ", line);
    }
    return result;
}

} // namespace

TEST_CASE("receiving: every event in every state has one answer") {
    auto expected = rows();
    std::set<std::size_t> kinds;
    for (const auto& [name, event] : events()) {
        kinds.insert(event.index());
        for (std::string state : states) {
            CAPTURE(state);
            CAPTURE(name);
            auto value = in(state);
            REQUIRE(in_words(value.now_in()) == state);
            const auto effects = in_words(value.on(receiving::event{event}, {}));
            auto known = expected.find({state, std::string{name}});
            if (known == expected.end())
                known = expected.find({state, "any event"});
            if (known == expected.end()) {
                FAIL_CHECK("no row: ", state, " | ", name, " | ", effects, " | ",
                           in_words(value.now_in()));
                continue;
            }
            known->second.used = true;
            CHECK(effects == known->second.effects);
            CHECK(in_words(value.now_in()) == known->second.after);
        }
    }
    CHECK(kinds.size() == std::variant_size_v<receiving::event>);
    for (const auto& [key, row] : expected)
        CHECK_MESSAGE(row.used, "a row of nothing: ", key.first, " | ", key.second);
}

TEST_CASE("receiving: a writer whose session is over, and that is in doubt about messages alone, "
          "is quiet once the attempt is shut out, though it may map") {
    receiving value{facts_of_attempt()};
    const auto after = [&value](receiving::event x) {
        return in_words(value.on(std::move(x), {}));
    };
    after(bind({writer(0)}));
    after(receiving::writer_linked{process_of(0), true, false});
    CHECK(after(slice()) == "allow; ask 0");
    auto from_memory = report(0, behind_all_pieces, agent_result::in_doubt);
    SUBCASE("it says so") {
        from_memory.by_messages = true;
        const auto said = after(from_memory);
        CHECK(said.find("ERROR (transfer_failed); ended") != std::string::npos);
        CHECK(after(from_memory) == "ignore duplicate");
        CHECK(after(receiving::writes_forbidden{}) == "released; retired");
    }
    SUBCASE("it does not say about what") {
        CHECK(after(from_memory).find("ERROR (transfer_failed); ended") != std::string::npos);
        CHECK(after(receiving::writes_forbidden{}).empty());
        CHECK(after(process_gone{process_of(0)}) == "released; retired");
    }
}
