// SPDX-License-Identifier: Apache-2.0
// Transfers through the C ABI: bytes, records, ends of every kind.
#include "tests/actors/c_api/c_rank.hpp"

#include <algorithm>

using namespace c_api_test;

TEST_CASE(
    "C ABI: bytes arrive, whichever side comes first; slots are copied before a call returns") {
    rank context{"prefill"};
    rank generation{"decode"};
    for (std::uint64_t rid : {1, 2}) {
        CAPTURE(rid);
        std::vector<std::int32_t> from{5, 0, 3}, to{1, 2, 7};
        for (auto slot : from)
            context.fill(slot, static_cast<int>(rid) * 16 + slot);
        kvf_session *sending = nullptr, *receiving = nullptr;
        const auto send = [&] {
            sending = context.open_tx(rid);
            KVF_REQUIRE(kvf_session_send(sending, std::make_unique<slice>(from).get()));
            from = {-7, -7, -7};
        };
        if (rid == 1)
            send();
        receiving = generation.open_rx(rid, context.endpoint());
        KVF_REQUIRE(kvf_session_receive(receiving, std::make_unique<slice>(to).get()));
        to = {-7, -7, -7};
        if (rid == 2)
            send();
        const auto outcome = outcome_of(receiving);
        CHECK_MESSAGE(outcome.code == KVF_OK, std::string{outcome.text});
        CHECK(outcome.state == KVF_STATE_KV_TRANSFERRED);
        CHECK(outcome.bytes == 3 * generation.slot_bytes);
        CHECK(outcome.text == std::string{});
        CHECK(outcome.roles_skipped == std::string{});
        REQUIRE(outcome.peers == 1);
        auto peer = sized<kvf_peer>();
        KVF_REQUIRE(kvf_session_peer(receiving, 0, &peer));
        CHECK(peer.rank == 0);
        CHECK(std::string{peer.route} == "mapped");
        CHECK(peer.way == KVF_ROUTE_MAPPED);
        KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_session_peer(receiving, 1, &peer));
        wait_released(receiving);
        wait_released(sending);
        CHECK(outcome_of(receiving).released == 1);
        const int base = static_cast<int>(rid) * 16;
        CHECK(generation.holds(1, base + 5));
        CHECK(generation.holds(2, base + 0));
        CHECK(generation.holds(7, base + 3));
        KVF_REQUIRE(kvf_session_free(sending));
        KVF_REQUIRE(kvf_session_free(receiving));
    }
}

TEST_CASE("C ABI: a request travels layer by layer, in any order; a receiver takes all of them") {
    rank context{"prefill"};
    rank generation{"decode"};
    context.fill(5, 0x77);
    const std::vector<std::int32_t> from{5}, to{2};
    auto* sending = context.open_tx(1);
    auto* receiving = generation.open_rx(1, context.endpoint());
    slice wanted{to};
    wanted.layer_end = 1;
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_session_receive(receiving, &wanted));
    wanted.layer_end = 0;
    KVF_REQUIRE(kvf_session_receive(receiving, &wanted));
    slice given{from};
    for (std::uint32_t layer : {2u, 0u, 3u, 1u}) {
        given.layer_begin = layer;
        given.layer_end = layer + 1;
        given.more = layer != 1;
        KVF_REQUIRE(kvf_session_send(sending, &given));
    }
    const auto outcome = outcome_of(receiving);
    CHECK_MESSAGE(outcome.code == KVF_OK, std::string{outcome.text});
    CHECK(outcome.bytes == generation.slot_bytes);
    CHECK(generation.holds(2, 0x77));
}

TEST_CASE("C ABI: memory that is no memfd goes over the network") {
    std::vector<unsigned char> memory;
    rank context{"prefill"};
    auto options = sized<kvf_worker_options>();
    options.instance = "decode";
    const auto place = one_rank();
    options.place = &place;
    options.flags = KVF_NO_SAME_HOST_LINK | KVF_DIGESTS;
    kvf_worker* worker = nullptr;
    KVF_REQUIRE(kvf_worker_start(&options, &worker));

    // The same table as kvf_pages_from_model makes, by hand: one head after the other, K before V.
    kvf_pages* pages = nullptr;
    KVF_REQUIRE(kvf_pages_new(&pages));
    const std::uint64_t head = tokens_per_block * 8 * 2, buffer = 2 * head;
    auto pool = sized<kvf_pool>();
    pool.slot_bytes = pool.slot_stride_bytes = layers * 2 * buffer;
    pool.slots = 4;
    std::uint32_t pool_index = 7, group_index = 7;
    KVF_REQUIRE(kvf_pages_add_pool(pages, &pool, &pool_index));
    CHECK(pool_index == 0);
    KVF_REQUIRE(kvf_pages_pool(pages, 0, &pool));
    CHECK(pool.bytes == 4 * pool.slot_bytes);
    const std::vector<std::uint32_t> ids{0, 1, 2, 3};
    auto group = sized<kvf_group>();
    group.layers = ids.data();
    group.layer_count = layers;
    group.tokens_per_slot = tokens_per_block;
    KVF_REQUIRE(kvf_pages_add_group(pages, &group, &group_index));
    CHECK(group_index == 0);
    std::vector<kvf_entry> entries;
    for (std::uint32_t layer = 0; layer < layers; ++layer)
        for (std::uint64_t which : {0, 1})
            entries.push_back({sizeof(kvf_entry), layer, (2 * layer + which) * buffer, buffer});
    const char* roles[] = {"value", "key"};
    auto view = sized<kvf_view>();
    view.pool = pool_index;
    view.roles = roles;
    view.role_count = 2;
    view.unit_bytes = head;
    view.element_type = "bf16";
    const std::uint32_t shape[] = {8};
    view.element_shape = shape;
    view.element_rank = 1;
    view.entries = entries.data();
    view.entry_count = entries.size();
    KVF_REQUIRE(kvf_pages_add_view(pages, group_index, &view));

    memory.resize(pool.bytes);
    auto region = sized<kvf_region>();
    region.kind = KVF_HOST_PRIVATE;
    region.base = memory.data();
    region.bytes = memory.size();
    KVF_REQUIRE(kvf_worker_publish(worker, &region, 1, pages));
    KVF_REQUIRE(kvf_pages_free(pages));
    KVF_CHECK_FAILS(KVF_GONE, kvf_worker_publish(worker, &region, 1, pages));

    const std::vector<std::int32_t> from{2}, to{3};
    context.fill(2, 0x5a);
    auto* sending = context.open_tx(1);
    KVF_REQUIRE(kvf_session_send(sending, std::make_unique<slice>(from).get()));
    auto request = sized<kvf_session_options>();
    request.rid = 1;
    const auto endpoint = context.endpoint();
    auto source = sized<kvf_source>();
    source.endpoint = endpoint.c_str();
    source.dp_rank = -1;
    kvf_session* receiving = nullptr;
    KVF_REQUIRE(kvf_worker_open_rx(worker, &request, &source, &receiving));
    KVF_REQUIRE(kvf_session_receive(receiving, std::make_unique<slice>(to).get()));
    const auto outcome = outcome_of(receiving);
    CHECK_MESSAGE(outcome.code == KVF_OK, std::string{outcome.text});
    auto peer = sized<kvf_peer>();
    KVF_REQUIRE(kvf_session_peer(receiving, 0, &peer));
    CHECK(peer.way == KVF_ROUTE_DIRECT);
    CHECK(peer.digests == 1);
    wait_released(receiving);
    const auto slot_bytes = static_cast<long>(pool.slot_bytes);
    CHECK(std::count(memory.begin() + 3 * slot_bytes, memory.end(), 0x5a) == slot_bytes);
    KVF_REQUIRE(kvf_worker_stop(worker, 10'000));
    KVF_REQUIRE(kvf_worker_free(worker));
}

TEST_CASE(
    "C ABI: the aux record comes with the cache, pieces and readiness are told when asked for") {
    rank context{"prefill"};
    rank generation{"decode"};
    const std::vector<std::int32_t> slots{0, 1};
    auto* sending = context.open_tx(5, KVF_AUX | KVF_TELL_READY | KVF_TELL_PIECES);
    auto* receiving = generation.open_rx(5, context.endpoint(), KVF_AUX);
    KVF_REQUIRE(kvf_session_receive(receiving, std::make_unique<slice>(slots).get()));
    CHECK(context.take(1)[0].kind == KVF_EVENT_READY);

    const std::vector<std::int32_t> first{42}, draft{1, 2, 3};
    auto aux = sized<kvf_aux>();
    aux.first_tokens = first.data();
    aux.first_token_count = first.size();
    aux.draft_tokens = draft.data();
    aux.draft_token_count = draft.size();
    aux.prompt_tokens = 32;
    aux.cached_tokens = 4;
    aux.opaque = "any";
    aux.opaque_bytes = 3;
    KVF_REQUIRE(kvf_session_send(sending, std::make_unique<slice>(slots).get()));
    KVF_REQUIRE(kvf_session_send_aux(sending, &aux));

    const auto outcome = outcome_of(receiving);
    CHECK_MESSAGE(outcome.state == KVF_STATE_FULLY_TRANSFERRED, std::string{outcome.text});
    auto came = sized<kvf_aux>();
    KVF_REQUIRE(kvf_session_aux(receiving, &came));
    REQUIRE(came.first_token_count == 1);
    CHECK(came.first_tokens[0] == 42);
    REQUIRE(came.draft_token_count == 3);
    CHECK(came.draft_tokens[2] == 3);
    CHECK(came.prompt_tokens == 32);
    CHECK(came.cached_tokens == 4);
    CHECK(std::string{static_cast<const char*>(came.opaque), came.opaque_bytes} == "any");

    wait_released(sending);
    auto events = context.take(1);
    while (events.back().kind != KVF_EVENT_RELEASED)
        events.push_back(context.take(1)[0]);
    for (const auto& event : events) {
        CHECK(event.session == sending);
        CHECK(event.user == 50);
        CHECK(event.rid == 5);
        CHECK(event.code == KVF_OK);
    }
    REQUIRE(events.size() >= 2);
    CHECK(events[events.size() - 2].kind == KVF_EVENT_OUTCOME);
    CHECK(std::all_of(events.begin(), events.end() - 2,
                      [](const auto& event) { return event.kind == KVF_EVENT_PIECE; }));
}

TEST_CASE("C ABI: a cancel, a peer that is not there and a wrong slot are outcomes with a reason") {
    rank context{"prefill"};
    rank generation{"decode"};
    const std::vector<std::int32_t> slots{0}, beyond{99};

    auto* cancelled = context.open_tx(1);
    KVF_REQUIRE(kvf_session_send(cancelled, std::make_unique<slice>(slots).get()));
    auto pending = sized<kvf_outcome>();
    KVF_REQUIRE(kvf_session_outcome(cancelled, &pending));
    CHECK(pending.state == KVF_STATE_PENDING);
    KVF_CHECK_FAILS(KVF_DEADLINE_EXCEEDED, kvf_session_wait(cancelled, KVF_EVENT_OUTCOME, 0));
    auto aux = sized<kvf_aux>();
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_session_aux(cancelled, &aux));
    char text[512];
    std::size_t room = sizeof text;
    KVF_REQUIRE(kvf_session_waits_for(cancelled, text, &room));
    CHECK(std::string{text} != "");
    KVF_REQUIRE(kvf_session_cancel(cancelled, "the user left"));
    auto outcome = outcome_of(cancelled);
    CHECK(outcome.state == KVF_STATE_CANCELLED);
    CHECK(outcome.code == KVF_CANCELLED);
    CHECK(std::string{outcome.text}.find("the user left") != std::string::npos);
    wait_released(cancelled);
    KVF_CHECK_FAILS(KVF_GONE, kvf_session_send(cancelled, std::make_unique<slice>(slots).get()));
    KVF_REQUIRE(kvf_session_cancel(cancelled, nullptr));

    auto* lonely = generation.open_rx(2, "127.0.0.1:1");
    const int given = kvf_session_receive(lonely, std::make_unique<slice>(slots).get());
    CHECK((given == KVF_OK || given == KVF_GONE)); // it may have failed by now
    outcome = outcome_of(lonely);
    CHECK(outcome.state == KVF_STATE_ERROR);
    CHECK(outcome.code == KVF_DIAL_FAILED);
    const auto told = generation.take(1)[0];
    CHECK(told.kind == KVF_EVENT_OUTCOME);
    CHECK(told.code == KVF_DIAL_FAILED);
    CHECK(std::string{outcome.text}.find(told.text) == 0);
    wait_released(lonely);

    auto* wrong = generation.open_rx(3, context.endpoint());
    KVF_REQUIRE(kvf_session_receive(wrong, std::make_unique<slice>(beyond).get()));
    auto* asked = context.open_tx(3);
    KVF_REQUIRE(kvf_session_send(asked, std::make_unique<slice>(slots).get()));
    CHECK(outcome_of(wrong).state == KVF_STATE_ERROR);
    CHECK(std::string{outcome_of(wrong).text}.find("99") != std::string::npos);
}

TEST_CASE("C ABI: a stop ends every session with an event, and its handles answer afterwards") {
    rank context{"prefill"};
    const std::vector<std::int32_t> slots{0};
    std::vector<kvf_session*> sessions;
    for (std::uint64_t rid = 1; rid <= 20; ++rid) {
        sessions.push_back(context.open_tx(rid));
        KVF_REQUIRE(kvf_session_send(sessions.back(), std::make_unique<slice>(slots).get()));
    }
    KVF_REQUIRE(kvf_worker_stop(context.worker, 10'000));
    std::size_t outcomes = 0;
    for (const auto& event : context.take(40))
        outcomes += event.kind == KVF_EVENT_OUTCOME;
    CHECK(outcomes == 20);
    CHECK(!context.readable());
    for (auto* session : sessions) {
        KVF_CHECK_FAILS(KVF_GONE, kvf_session_send(session, std::make_unique<slice>(slots).get()));
        KVF_REQUIRE(kvf_session_cancel(session, nullptr));
        CHECK(outcome_of(session).state != KVF_STATE_KV_TRANSFERRED);
    }
    KVF_CHECK_FAILS(KVF_STOPPED, kvf_worker_stop(context.worker, 10'000));
    KVF_CHECK_FAILS(KVF_STOPPED, kvf_worker_drain(context.worker, 10'000));
    auto statistics = sized<kvf_statistics>();
    KVF_CHECK_FAILS(KVF_STOPPED, kvf_worker_statistics(context.worker, &statistics));
    auto* late = context.open_tx(99); // its refusal is its outcome
    CHECK(outcome_of(late).code == KVF_STOPPED);
    wait_released(late);
    KVF_REQUIRE(kvf_worker_free(context.worker));
    KVF_CHECK_FAILS(KVF_GONE, kvf_session_cancel(sessions[0], nullptr));
    KVF_CHECK_FAILS(KVF_GONE, kvf_session_free(late));
}
