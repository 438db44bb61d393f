// SPDX-License-Identifier: Apache-2.0
// One copy for several replicas: what a session does that takes from a sibling, and one that hands
// on. Writers 0 and 1 are the context's, 1 has the aux record; 5 is the sibling.
#include "tests/actors/decisions/receiving/receiving_events.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

receiving::writer_linked linked(std::uint32_t rank, bool watched = false) {
    return {process_of(rank), watched, false};
}

bind_writers bind_with_sibling(aux_mode aux) {
    auto result = bind({writer(0), writer(1, true, aux == aux_mode::required)});
    for (auto& each : result.writers)
        each.held_back = true;
    result.relay = relay_binding{{sibling(5, aux == aux_mode::required)}, 77};
    return result;
}

struct story {
    explicit story(aux_mode aux = aux_mode::none) : value(facts_of_attempt(aux)) {}

    std::string after(receiving::event x) { return in_words(value.on(std::move(x), {})); }

    receiving value;
};

/// Asked the sibling for one slice; both context ranks have links.
story asked_sibling(aux_mode aux = aux_mode::none) {
    story x{aux};
    CHECK(x.after(slice()).empty());
    CHECK(x.after(bind_with_sibling(aux)).empty());
    CHECK(x.after(linked(0)).empty()); // held back
    CHECK(x.after(linked(1)).empty());
    CHECK(x.after(linked(5, true)) == "allow; ask 5");
    return x;
}

} // namespace

TEST_CASE("relay: a sibling's report is enough, and the context is told that it need not send") {
    auto x = asked_sibling();
    CHECK(x.after(transfer_started{header_from(5)}) == "group 0 begins");
    CHECK(x.after(report(5))
          == "piece 0 arrived; KV_TRANSFERRED; ended relayed 0 relayed 1; forbid; released; "
             "retired");
}

TEST_CASE("relay: the request says whose bytes are meant, and to whom the others are") {
    story x;
    x.after(slice());
    x.after(bind_with_sibling(aux_mode::none));
    const auto effects = x.value.on(linked(5, true), {});
    const auto& request = std::get<receiving::ask_writer>(effects.back()).request;
    CHECK(request.header.relay);
    CHECK(request.relay_of == 77);
    CHECK(request.may_map);
    CHECK_FALSE(request.digest);
    CHECK_FALSE(request.relayed);
}

TEST_CASE(
    "relay: while it waits, the context hears that the session is wanted, the sibling is asked "
    "again") {
    auto x = asked_sibling();
    CHECK(x.after(keep_session{}) == "keep 0; keep 1");
    CHECK(x.after(renew_requests{}) == "renew 5");
}

TEST_CASE("relay: whatever becomes of the sibling, the context is asked, and the outcome is its") {
    auto x = asked_sibling();
    SUBCASE("it refuses") {
        CHECK(x.after(refused_by(5))
              == "relay given up (layout_mismatch); cancel 5 (layout_mismatch); ask 0; ask 1");
    }
    SUBCASE("it knows nothing") {
        CHECK(x.after(gone_from(5)) == "relay given up (gone); cancel 5 (gone); ask 0; ask 1");
    }
    SUBCASE("it fails") {
        CHECK(
            x.after(report(5, {{0}, true}, agent_result::failed))
            == "group 0 begins; relay given up (transfer_failed); cancel 5 (transfer_failed); ask "
               "0; ask 1");
    }
    SUBCASE("it gives up") {
        CHECK(x.after(cancelled_by(5))
              == "relay given up (cancelled); cancel 5 (cancelled); ask 0; ask 1");
    }
    SUBCASE("its link breaks for good") {
        CHECK(x.after(lost(5)) == "relay given up (link_lost); ask 0; ask 1");
        CHECK(x.after(process_gone{process_of(5)}).empty());
    }
    SUBCASE("its process dies") {
        CHECK(x.after(process_gone{process_of(5)}) == "relay given up (peer_gone); ask 0; ask 1");
    }
    SUBCASE("it has had its half of the time") {
        CHECK(x.after(relay_overdue{})
              == "relay given up (deadline_exceeded); cancel 5 (deadline_exceeded); ask 0; ask 1");
        CHECK(x.after(relay_overdue{}).empty());
    }
    x.after(transfer_started{header_from(0)});
    CHECK(x.after(report(0)).empty());
    const auto end = x.after(report(1));
    CHECK(end.find("piece 0 arrived; KV_TRANSFERRED; ended; forbid") == 0);
}

TEST_CASE("relay: a link of the sibling that is dialled again costs nothing") {
    auto x = asked_sibling();
    CHECK(x.after(lost(5, errc::link_lost, true)).empty());
    CHECK(x.after(linked(5, true)) == "ask 5");
}

TEST_CASE("relay: a sibling that may map keeps the pages until there is proof, though the context "
          "has served") {
    auto x = asked_sibling();
    x.after(relay_overdue{});
    x.after(report(0));
    CHECK(x.after(report(1)) == "piece 0 arrived; KV_TRANSFERRED; ended; forbid");
    CHECK(x.after(receiving::writes_forbidden{}).empty());
    CHECK(x.value.waits().size() == 1);
    CHECK(x.value.waits().front().what.find("sibling rank 5") != std::string::npos);
    CHECK(x.after(report(5, {{0}, true}, agent_result::failed)) == "released; retired");
}

TEST_CASE("relay: what has come from the sibling is not sent again") {
    story x;
    x.after(slice(false));
    x.after(slice(true));
    x.after(bind_with_sibling(aux_mode::none));
    for (auto rank : {0U, 1U, 5U})
        x.after(linked(rank, rank == 5));
    CHECK(x.after(report(5)) == "group 0 begins; piece 0 arrived");
    CHECK(
        x.after(cancelled_by(5))
        == "relay given up (cancelled); cancel 5 (cancelled); ask 0 for aux, which came otherwise; "
           "ask 0 slice 1; ask 1 for aux, which came otherwise; ask 1 slice 1");
    x.after(report(0, {{0}, true}, agent_result::success, 1));
    CHECK(x.after(report(1, {{0}, true}, agent_result::success, 1))
              .find("piece 1 arrived; KV_TRANSFERRED; ended")
          == 0);
}

TEST_CASE("relay: the aux record comes from the sibling too, or from the context after all") {
    auto x = asked_sibling(aux_mode::required);
    SUBCASE("from the sibling") {
        x.after(report(5));
        CHECK(x.after(aux_report(5)).find("FULLY_TRANSFERRED; ended relayed 0 relayed 1") == 0);
    }
    SUBCASE("the bytes came, the record did not") {
        CHECK(x.after(report(5)) == "group 0 begins; piece 0 arrived");
        x.after(relay_overdue{});
        CHECK(x.after(renew_requests{}) == "renew 1 for aux, which came otherwise");
        CHECK(x.after(aux_report(1)).find("FULLY_TRANSFERRED; ended") == 0);
    }
    SUBCASE("the record came, the bytes did not") {
        x.after(aux_report(5));
        const auto effects = x.value.on(relay_overdue{}, {});
        const auto& ask = std::get<receiving::ask_writer>(effects.back());
        CHECK(ask.request.aux == aux_mode::none);
        x.after(report(0));
        CHECK(x.after(report(1)).find("piece 0 arrived; FULLY_TRANSFERRED; ended") == 0);
    }
}

TEST_CASE("relay: a context rank that was lost while nobody needed it fails the session only when "
          "the sibling has failed") {
    auto x = asked_sibling();
    CHECK(x.after(lost(0)).empty());
    SUBCASE("the sibling serves") {
        CHECK(x.after(report(5)).find("KV_TRANSFERRED; ended relayed 0 relayed 1")
              != std::string::npos);
    }
    SUBCASE("the sibling fails") {
        CHECK(x.after(cancelled_by(5)).find("ERROR (link_lost)") != std::string::npos);
    }
    SUBCASE("the link is back before the sibling fails") {
        CHECK(x.after(linked(0)).empty());
        CHECK(x.after(cancelled_by(5)).find("ask 0; ask 1") != std::string::npos);
    }
}

TEST_CASE("relay: a failure is told to all: the sibling, and context ranks that were never asked") {
    auto x = asked_sibling();
    CHECK(x.after(cancel_request{})
          == "piece 0 (cancelled); cancel 5 (cancelled); CANCELLED (cancelled); ended untold 0 "
             "untold "
             "1; forbid");
}

// -- handing on -----------------------------------------------------------------------------------

namespace {

/// Two slices, one writer, siblings that may ask.
story hands_on(aux_mode aux = aux_mode::none) {
    story x{aux};
    x.after(slice(false));
    auto all = bind({writer(0, true, aux == aux_mode::required)});
    all.relay = relay_binding{{}, 77, true};
    CHECK(x.after(std::move(all)) == "open relay");
    x.after(slice(true));
    x.after(linked(0));
    return x;
}

} // namespace

TEST_CASE(
    "relay: slices are handed on when they are here, in their order, and pages come back when "
    "siblings have them") {
    auto x = hands_on();
    CHECK(x.after(report(0, {{0}, true}, agent_result::success, 1))
          == "group 0 begins; piece 1 arrived");
    CHECK(x.after(report(0, {{0}, true}, agent_result::success, 0))
          == "piece 0 arrived; hand on; hand on the last; KV_TRANSFERRED; ended; forbid");
    CHECK(x.after(receiving::writes_forbidden{}).empty());
    CHECK(x.value.waits().front().what == "siblings that it hands on to");
    SUBCASE("they have them") {}
    SUBCASE("some have not asked for long") {
        CHECK(x.after(relay_overdue{}) == "end relay (deadline_exceeded) unless asked");
    }
    SUBCASE("the host wants its pages") {
        CHECK(x.after(cancel_request{}) == "end relay (cancelled)");
    }
    CHECK(x.after(relay_over{}) == "released; retired");
}

TEST_CASE("relay: siblings are told of a failure, and pages wait until nothing of it is read") {
    auto x = hands_on();
    CHECK(x.after(report(0)) == "group 0 begins; piece 0 arrived; hand on");
    CHECK(x.after(cancel_request{})
              .find("end relay (cancelled); CANCELLED (cancelled); ended; forbid")
          != std::string::npos);
    x.after(report(0, {{0}, true}, agent_result::failed, 1));
    CHECK(x.after(relay_over{}) == "released; retired");
}

TEST_CASE("relay: the aux record is handed on as well") {
    auto x = hands_on(aux_mode::required);
    CHECK(x.after(aux_report(0)) == "group 0 begins; hand on aux");
}

TEST_CASE("relay: where none could be opened, the session goes on alone") {
    auto x = hands_on();
    CHECK(x.after(relay_over{}).empty());
    x.after(report(0));
    CHECK(x.after(report(0, {{0}, true}, agent_result::success, 1))
          == "piece 1 arrived; KV_TRANSFERRED; ended; forbid; released; retired");
}

TEST_CASE("relay: a host that extends its session extends what siblings get of it") {
    auto x = hands_on();
    const auto effects = x.value.on(extend_session{std::chrono::milliseconds{30}}, {});
    REQUIRE(effects.size() == 2);
    CHECK(std::get<session_extended>(effects[0]).by == std::chrono::milliseconds{30});
    CHECK(std::get<receiving::extend_relay>(effects[1]).by == std::chrono::milliseconds{30});
    x.after(relay_over{});
    CHECK(x.value.on(extend_session{std::chrono::milliseconds{30}}, {}).size() == 1);
}

// -- piece by piece -------------------------------------------------------------------------------

namespace {

/// One slice, two writers that say what their pieces are about.
story hands_on_pieces(bool tell = true) {
    story x;
    x.after(slice());
    auto all = bind({writer(0), writer(1)});
    for (auto& each : all.writers) {
        each.tells_extents = tell;
        each.layers_end = 4;
    }
    all.relay = relay_binding{{}, 77, true};
    CHECK(x.after(std::move(all)) == "open relay");
    x.after(linked(0));
    x.after(linked(1));
    return x;
}

/// The writer's piece was about these tokens in these layers.
kv_agent_result part(std::uint32_t rank, send_piece piece, token_range tokens,
                     layer_range layers = {}) {
    auto result = report(rank, piece);
    result.extent = slice_extent{tokens, layers};
    return result;
}

std::vector<kv_slice> handed_on(const receiving::effects& all) {
    std::vector<kv_slice> result;
    for (const auto& each : all)
        if (const auto* x = std::get_if<receiving::hand_on>(&each))
            result.push_back(x->slice);
    return result;
}

} // namespace

TEST_CASE("relay: a piece is handed on as soon as all of its writers have written it") {
    auto x = hands_on_pieces();
    CHECK(handed_on(x.value.on(part(0, {{0}, false}, {0, 16}), {})).empty());
    const auto first = handed_on(x.value.on(part(1, {{0}, false}, {0, 16}), {}));
    REQUIRE(first.size() == 1);
    CHECK(first[0].tokens == token_range{0, 16});
    CHECK_FALSE(first[0].last);
    CHECK(handed_on(x.value.on(part(1, {{1}, true}, {16, 32}), {})).empty());
    const auto rest = handed_on(x.value.on(part(0, {{1}, true}, {16, 32}), {}));
    REQUIRE(rest.size() == 2);
    CHECK(rest[0].tokens == token_range{16, 32});
    CHECK_FALSE(rest[0].last);
    CHECK(rest[1].tokens == token_range{32, 32}); // says that it was all
    CHECK(rest[1].last);
}

TEST_CASE(
    "relay: layers are handed on as they come; a writer without them need not speak of them") {
    story x;
    x.after(slice());
    auto all = bind({writer(0), writer(1)});
    for (auto& each : all.writers)
        each.tells_extents = true;
    all.writers[0].layers_end = 2;
    all.writers[1].first_layer = 2;
    all.writers[1].layers_end = 4;
    all.relay = relay_binding{{}, 77, true};
    x.after(std::move(all));
    x.after(linked(0));
    x.after(linked(1));
    const auto low = handed_on(x.value.on(part(0, {{0}, false}, {0, 32}, {0, 1}), {}));
    REQUIRE(low.size() == 1);
    CHECK(low[0].layers == layer_range{0, 1});
    CHECK(handed_on(x.value.on(part(1, {{0}, false}, {0, 32}, {2, 3}), {})).size() == 1);
    CHECK(handed_on(x.value.on(part(1, {{1}, true}, {0, 32}, {3, 4}), {})).size() == 1);
    CHECK(handed_on(x.value.on(part(0, {{1}, true}, {0, 32}, {1, 2}), {})).size() == 2);
}

TEST_CASE("relay: where a writer does not say what its pieces are about, slices are handed on") {
    auto x = hands_on_pieces(false);
    x.after(part(0, {{0}, false}, {0, 16}));
    CHECK(handed_on(x.value.on(part(1, {{0}, false}, {0, 16}), {})).empty());
    x.after(part(0, {{1}, true}, {16, 32}));
    const auto whole = handed_on(x.value.on(part(1, {{1}, true}, {16, 32}), {}));
    REQUIRE(whole.size() == 1);
    CHECK(whole[0].tokens == token_range{0, 32});
    CHECK(whole[0].last);
}

TEST_CASE("relay: what a failed piece was about is not handed on") {
    auto x = hands_on_pieces();
    x.after(part(0, {{0}, false}, {0, 16}));
    auto failed = part(1, {{0}, false}, {0, 16});
    failed.result = agent_result::failed;
    failed.error = {errc::transfer_failed, "wire cut"};
    CHECK(handed_on(x.value.on(failed, {})).empty());
}

// -- a part of the cache --------------------------------------------------------------------------

namespace {

constexpr view_place own_heads{0, 0};
constexpr view_place latents{0, 1};

/// Of context rank 0 it wants heads for itself; the latents, which that rank has as well as 1, come
/// from sibling 5. It hands on nothing.
story in_parts(aux_mode aux = aux_mode::none, std::uint32_t slices = 1) {
    story x{aux};
    for (std::uint32_t each = 1; each <= slices; ++each)
        x.after(slice(each == slices));
    auto heads = writer(0, true, aux == aux_mode::required);
    heads.views = {own_heads};
    auto rest = writer(0);
    auto other = writer(1);
    rest.views = other.views = {latents};
    rest.held_back = other.held_back = true;
    heads.in_parts = rest.in_parts = other.in_parts = true;
    auto all = bind({heads, rest, other});
    auto from = sibling(5);
    from.views = {latents};
    all.relay = relay_binding{{from}, 77};
    CHECK(x.after(std::move(all)).empty());
    x.after(linked(0));
    x.after(linked(1));
    x.after(linked(5, true));
    return x;
}

} // namespace

TEST_CASE(
    "relay: of a part that siblings bring, the context is told; the other part is asked for") {
    story x;
    x.after(slice());
    auto heads = writer(0);
    heads.views = {own_heads};
    auto rest = writer(0);
    rest.views = {latents};
    rest.held_back = heads.in_parts = rest.in_parts = true;
    auto all = bind({heads, rest});
    auto from = sibling(5);
    from.views = {latents};
    all.relay = relay_binding{{from}, 77};
    x.after(std::move(all));
    auto effects = x.value.on(linked(0), {});
    const auto& own = std::get<receiving::ask_writer>(effects.back()).request;
    CHECK(own.views == std::vector{own_heads});
    CHECK_FALSE(own.target.last); // the other part is to be heard of
    CHECK(own.header.receive_slice == slice_index{0});
    effects = x.value.on(linked(5), {});
    const auto& taken = std::get<receiving::ask_writer>(effects.back()).request;
    CHECK(taken.views == std::vector{latents});
    CHECK(taken.header.relay);
    x.after(report(5));
    effects = x.value.on(report(0), {});
    const auto& end = std::get<session_ended>(effects[effects.size() - 4]);
    CHECK(end.relayed == std::vector{rank_id{0}});
    CHECK(end.relayed_as == slice_index{1});
    CHECK(x.value.state() == session_state::kv_transferred);
}

TEST_CASE("relay: when a sibling fails, the context is asked for that part alone") {
    auto x = in_parts(aux_mode::required, 2);
    x.after(aux_report(0));
    x.after(report(0)); // its heads of the first slice
    CHECK(x.after(report(5)) == "piece 0 arrived");
    CHECK(x.after(lost(5))
          == "relay given up (link_lost); ask 0 slice 1 for aux, which came otherwise; ask 0 slice "
             "3; ask 1 slice 1 for aux, which came otherwise; ask 1 slice 3");
    x.after(report(0, {{0}, true}, agent_result::success, 2));
    x.after(report(0, {{0}, true}, agent_result::success, 3));
    CHECK(x.after(report(1, {{0}, true}, agent_result::success, 3))
              .find("piece 1 arrived; FULLY_TRANSFERRED; ended")
          == 0);
}

TEST_CASE("relay: a writer in two parts is cancelled once, and both of them have to be quiet") {
    auto x = in_parts();
    x.after(lost(5));
    const auto end = x.after(cancel_request{});
    CHECK(end.find("cancel 0") != std::string::npos);
    CHECK(end.find("cancel 0") == end.rfind("cancel 0"));
    x.after(process_gone{process_of(5)});
    x.after(report(1, {{0}, true}, agent_result::failed, 1));
    x.after(report(0, {{0}, true}, agent_result::failed, 0));
    CHECK(x.value.waits().size() == 1);
    CHECK(x.after(report(0, {{0}, true}, agent_result::failed, 1)) == "released; retired");
}

TEST_CASE("relay: a link to a writer whose part is here may break while siblings bring the rest") {
    auto x = in_parts();
    x.after(report(0));
    CHECK(x.after(lost(0, errc::link_lost, true)).empty());
    CHECK(x.after(linked(0)).empty());
    CHECK(x.after(report(5)).find("piece 0 arrived; KV_TRANSFERRED") == 0);
}

TEST_CASE("relay: a rank that hands on one part and takes the other does not wait to hand on") {
    story x;
    x.after(slice());
    auto heads = writer(0);
    heads.views = {own_heads};
    auto rest = writer(0);
    rest.views = {latents};
    rest.held_back = heads.in_parts = rest.in_parts = true;
    auto all = bind({heads, rest});
    auto from = sibling(5);
    from.views = {latents};
    all.relay = relay_binding{{from}, 77, true, {own_heads}};
    const auto opened = x.value.on(std::move(all), {});
    CHECK(std::get<receiving::open_relay>(opened.back()).views == std::vector{own_heads});
    x.after(linked(0));
    x.after(linked(5));
    CHECK(x.after(report(0)) == "group 0 begins; hand on the last");
    CHECK(x.after(report(5)).find("piece 0 arrived; KV_TRANSFERRED; ended relayed 0") == 0);
}
