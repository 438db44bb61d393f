// SPDX-License-Identifier: Apache-2.0
// Leases, layers, slots in doubt and carried infos over the C ABI; callers of the ABI before.
#include "tests/actors/c_api/c_rank.hpp"

#include <cstddef>
#include <string>
#include <vector>

using namespace c_api_test;

namespace {

std::vector<char> info_of(const rank& of) {
    std::size_t bytes = 0;
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_worker_info(of.worker, nullptr, &bytes));
    std::vector<char> result(bytes);
    KVF_REQUIRE(kvf_worker_info(of.worker, result.data(), &bytes));
    CHECK(bytes == result.size());
    return result;
}

kvf_bytes bytes_of(const std::vector<char>& info) {
    auto result = sized<kvf_bytes>();
    result.data = info.data();
    result.bytes = info.size();
    return result;
}

} // namespace

TEST_CASE("C ABI life: a lease is extended while the session lives") {
    rank context{"prefill"};
    auto* session = context.open_tx(1);
    KVF_REQUIRE(kvf_session_extend(session, 60'000));
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_session_extend(session, -1));
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_session_extend(session, 100'000'000));
    KVF_REQUIRE(kvf_session_cancel(session, nullptr));
    wait_released(session);
    KVF_CHECK_FAILS(KVF_GONE, kvf_session_extend(session, 60'000));
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_session_extend(nullptr, 1));
}

TEST_CASE("C ABI life: layers are told, the newest for those before it, and hold one place") {
    rank context{"prefill"};
    rank generation{"decode", 8, 3}; // outcome, release, layers
    context.fill(2, 0x22);
    auto* rx = generation.open_rx(1, context.endpoint(), KVF_TELL_LAYERS);
    const std::vector<std::int32_t> to{5}, from{2};
    const slice lent1{to};
    KVF_REQUIRE(kvf_session_receive(rx, &lent1));
    auto* tx = context.open_tx(1);
    slice piece{from};
    const auto send = [&](std::uint32_t layer) {
        piece.layer_begin = layer;
        piece.layer_end = layer + 1;
        piece.more = layer + 1 < layers;
        KVF_REQUIRE(kvf_session_send(tx, &piece));
    };
    send(0);
    const auto first = generation.take(1);
    CHECK(first[0].kind == KVF_EVENT_LAYERS);
    CHECK(first[0].piece == 1);
    CHECK(first[0].session == rx);
    for (std::uint32_t layer = 1; layer < layers; ++layer)
        send(layer);
    wait_released(rx);
    auto rest = generation.take(2);
    while (rest.back().kind != KVF_EVENT_RELEASED)
        for (const auto& each : generation.take(1))
            rest.push_back(each);
    std::size_t outcomes = 0;
    for (const auto& each : rest)
        outcomes += each.kind == KVF_EVENT_OUTCOME;
    CHECK(outcomes == 1);
    CHECK(generation.holds(5, 0x22));
    // All places are free again, and without the flag none is held for layers.
    auto* next = generation.open_rx(2, context.endpoint(), KVF_TELL_LAYERS);
    KVF_REQUIRE(kvf_session_free(next));
}

TEST_CASE("C ABI life: slots in doubt are listed by group, with as much room as there is") {
    rank context{"prefill"}, generation{"decode"};
    auto* rx = generation.open_rx(1, context.endpoint());
    const std::vector<std::int32_t> to{5, KVF_NO_SLOT, 3};
    const slice lent2{to};
    KVF_REQUIRE(kvf_session_receive(rx, &lent2));
    std::uint32_t groups[2];
    std::int32_t slots[2];
    std::size_t count = 1;
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_session_slots_in_doubt(rx, groups, slots, &count));
    CHECK(count == 2);
    KVF_REQUIRE(kvf_session_slots_in_doubt(rx, groups, slots, &count));
    CHECK(slots[0] == 3);
    CHECK(slots[1] == 5);
    CHECK(groups[0] == 0);
    CHECK(groups[1] == 0);
    KVF_REQUIRE(kvf_session_cancel(rx, nullptr));
    wait_released(rx);
    KVF_REQUIRE(kvf_session_slots_in_doubt(rx, nullptr, nullptr, &count));
    CHECK(count == 0);
}

TEST_CASE("C ABI life: what the receivers want is there when the session is ready") {
    rank context{"prefill"}, generation{"decode"};
    auto* tx = context.open_tx(1, KVF_TELL_READY);
    auto wanted = sized<kvf_wanted>();
    KVF_REQUIRE(kvf_session_wanted(tx, &wanted));
    CHECK(wanted.receivers == 0);
    auto* rx = generation.open_rx(1, context.endpoint());
    const std::vector<std::int32_t> to{KVF_NO_SLOT, 3};
    const slice lent3{to};
    KVF_REQUIRE(kvf_session_receive(rx, &lent3));
    CHECK(context.take(1)[0].kind == KVF_EVENT_READY);
    KVF_REQUIRE(kvf_session_wanted(tx, &wanted));
    CHECK(wanted.receivers == 1);
    CHECK(wanted.prompt_tokens == 32);
    CHECK(wanted.prefix_tokens == 16);
    CHECK(wanted.blocks == 1);
    KVF_REQUIRE(kvf_session_cancel(rx, nullptr));
    wait_released(rx);
    wait_released(tx);
}

TEST_CASE("C ABI life: infos go out as bytes and come in as an instance") {
    rank context{"prefill"}, generation{"decode"};
    const auto info = info_of(context);
    const auto given = bytes_of(info);
    char address[32];
    std::size_t room = sizeof address;
    KVF_REQUIRE(kvf_worker_add_instance(generation.worker, &given, 1, address, &room));
    CHECK(std::string{address} == "@prefill");
    context.fill(1, 0x11);
    const std::vector<std::int32_t> to{4}, from{1};
    auto* rx = generation.open_rx(1, address);
    const slice lent4{to};
    KVF_REQUIRE(kvf_session_receive(rx, &lent4));
    auto* tx = context.open_tx(1);
    const slice lent5{from};
    KVF_REQUIRE(kvf_session_send(tx, &lent5));
    CHECK(outcome_of(rx).code == KVF_OK);
    wait_released(rx);
    wait_released(tx);
    CHECK(generation.holds(4, 0x11));
    KVF_REQUIRE(kvf_worker_add_instance(generation.worker, &given, 1, nullptr, nullptr));
    KVF_REQUIRE(kvf_worker_remove_instance(generation.worker, address));
    const kvf_bytes twice[] = {given, given};
    KVF_CHECK_FAILS(KVF_DUPLICATE,
                    kvf_worker_add_instance(generation.worker, twice, 2, nullptr, nullptr));
    auto cut = given;
    cut.bytes -= 1;
    KVF_CHECK_FAILS(KVF_MALFORMED_MESSAGE,
                    kvf_worker_add_instance(generation.worker, &cut, 1, nullptr, nullptr));
}

TEST_CASE("C ABI life: a caller of the ABI before sees structs that end where its own do") {
    rank context{"prefill"};
    auto* session = context.open_tx(1);
    KVF_REQUIRE(kvf_session_cancel(session, nullptr));
    wait_released(session);
    auto before = sized<kvf_statistics>();
    before.size = offsetof(kvf_statistics, sessions_succeeded);
    before.waited_ns = 77;
    KVF_REQUIRE(kvf_worker_statistics(context.worker, &before));
    CHECK(before.sessions_opened == 1);
    CHECK(before.size == offsetof(kvf_statistics, sessions_succeeded));
    CHECK(before.waited_ns == 77); // behind its end
    auto now = sized<kvf_statistics>();
    KVF_REQUIRE(kvf_worker_statistics(context.worker, &now));
    CHECK(now.sessions_failed[KVF_CANCELLED] == 1);
    CHECK(now.sessions_succeeded == 0);
}
