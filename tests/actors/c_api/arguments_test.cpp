// SPDX-License-Identifier: Apache-2.0
// Wrong calls: every one is an error with a text, none crashes.
#include "tests/actors/c_api/c_rank.hpp"

#include <functional>
#include <map>

using namespace c_api_test;

namespace {

/// Every call that takes a handle of this kind, with everything else right.
template <class Handle>
using calls_with = std::map<std::string, std::function<int(Handle*)>>;

template <class Handle>
void check_refused(const calls_with<Handle>& calls, Handle* freed) {
    for (const auto& [name, call] : calls) {
        CAPTURE(name);
        KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, call(nullptr));
        KVF_CHECK_FAILS(KVF_GONE, call(freed));
        KVF_CHECK_FAILS(KVF_GONE, call(reinterpret_cast<Handle*>(std::uintptr_t{0xdeadbeef})));
    }
}

const auto region = sized<kvf_region>();
const auto pool = sized<kvf_pool>();
const auto group = sized<kvf_group>();
const auto view = sized<kvf_view>();
const auto options = sized<kvf_session_options>();
const auto source = sized<kvf_source>();
const auto one_slice = sized<kvf_slice>();
const auto aux = sized<kvf_aux>();

} // namespace

TEST_CASE("C ABI: handles that are NULL, freed or made up are refused by every call") {
    rank context{"prefill"};
    auto* session = context.open_tx(1);
    KVF_REQUIRE(kvf_session_free(session));
    kvf_pages* pages = nullptr;
    KVF_REQUIRE(kvf_pages_new(&pages));
    KVF_REQUIRE(kvf_pages_free(pages));
    kvf_memory* memory = nullptr;
    KVF_REQUIRE(kvf_memory_new("test", 4096, KVF_MEMORY_PREFAULT, &memory));
    KVF_REQUIRE(kvf_memory_free(memory));
    kvf_worker* worker = context.worker;
    KVF_REQUIRE(kvf_worker_stop(worker, 10'000));
    KVF_REQUIRE(kvf_worker_free(worker));

    char text[64];
    std::size_t room = sizeof text;
    check_refused<kvf_memory>({{"region",
                                [](auto* it) {
                                    auto out = region;
                                    return kvf_memory_region(it, &out);
                                }}},
                              memory);
    check_refused<kvf_pages>(
        {{"add_pool", [](auto* it) { return kvf_pages_add_pool(it, &pool, nullptr); }},
         {"add_group", [](auto* it) { return kvf_pages_add_group(it, &group, nullptr); }},
         {"add_view", [](auto* it) { return kvf_pages_add_view(it, 0, &view); }},
         {"pool",
          [](auto* it) {
              auto out = pool;
              return kvf_pages_pool(it, 0, &out);
          }}},
        pages);
    check_refused<kvf_worker>(
        {{"publish", [](auto* it) { return kvf_worker_publish(it, &region, 0, nullptr); }},
         {"endpoint", [&](auto* it) { return kvf_worker_endpoint(it, text, &room); }},
         {"memory_route", [&](auto* it) { return kvf_worker_memory_route(it, 0, text, &room); }},
         {"statistics",
          [](auto* it) {
              auto out = sized<kvf_statistics>();
              return kvf_worker_statistics(it, &out);
          }},
         {"stop", [](auto* it) { return kvf_worker_stop(it, 0); }},
         {"drain", [](auto* it) { return kvf_worker_drain(it, 0); }},
         {"connect", [](auto* it) { return kvf_worker_connect(it, &source, 0); }},
         {"unpublish", [](auto* it) { return kvf_worker_unpublish(it, 0); }},
         {"event_fd",
          [](auto* it) {
              int fd = 0;
              return kvf_worker_event_fd(it, &fd);
          }},
         {"events",
          [](auto* it) {
              auto event = sized<kvf_event>();
              std::size_t count = 0;
              return kvf_worker_events(it, &event, 1, &count);
          }},
         {"wait", [](auto* it) { return kvf_worker_wait(it, 0); }},
         {"open_tx",
          [](auto* it) {
              kvf_session* out = nullptr;
              return kvf_worker_open_tx(it, &options, &out);
          }},
         {"open_rx",
          [](auto* it) {
              kvf_session* out = nullptr;
              return kvf_worker_open_rx(it, &options, &source, &out);
          }}},
        worker);
    check_refused<kvf_session>(
        {{"send", [](auto* it) { return kvf_session_send(it, &one_slice); }},
         {"receive", [](auto* it) { return kvf_session_receive(it, &one_slice); }},
         {"send_aux", [](auto* it) { return kvf_session_send_aux(it, &aux); }},
         {"cancel", [](auto* it) { return kvf_session_cancel(it, nullptr); }},
         {"wait", [](auto* it) { return kvf_session_wait(it, KVF_EVENT_OUTCOME, 0); }},
         {"outcome",
          [](auto* it) {
              auto out = sized<kvf_outcome>();
              return kvf_session_outcome(it, &out);
          }},
         {"peer",
          [](auto* it) {
              auto out = sized<kvf_peer>();
              return kvf_session_peer(it, 0, &out);
          }},
         {"aux",
          [](auto* it) {
              auto out = aux;
              return kvf_session_aux(it, &out);
          }},
         {"waits_for", [&](auto* it) { return kvf_session_waits_for(it, text, &room); }}},
        session);

    KVF_CHECK_FAILS(KVF_GONE, kvf_memory_free(memory));
    KVF_CHECK_FAILS(KVF_GONE, kvf_pages_free(pages));
    KVF_CHECK_FAILS(KVF_GONE, kvf_session_free(session));
    KVF_CHECK_FAILS(KVF_GONE, kvf_worker_free(worker));
    CHECK(kvf_memory_free(nullptr) == KVF_OK);
    CHECK(kvf_pages_free(nullptr) == KVF_OK);
    CHECK(kvf_session_free(nullptr) == KVF_OK);
    CHECK(kvf_worker_free(nullptr) == KVF_OK);
    CHECK(kvf_last_error() == std::string{});
    context.worker = nullptr;
}

TEST_CASE("C ABI: sizes of structs that cannot be are refused, with the struct's name") {
    kvf_pages* pages = nullptr;
    KVF_REQUIRE(kvf_pages_new(&pages));
    for (std::uint32_t size : {0u, 4u, 7u, 12u, 39u}) {
        CAPTURE(size);
        auto wrong = pool;
        wrong.size = size;
        KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_pages_add_pool(pages, &wrong, nullptr));
        CHECK(std::string{kvf_last_error()}.find("sizeof(kvf_pool)") != std::string::npos);
    }
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_pages_add_pool(pages, nullptr, nullptr));

    // An older caller ends early: the rest is zero. A newer one goes on: what it says there must
    // be.
    auto early = pool;
    early.slot_bytes = 64;
    early.slot_stride_bytes = 128;
    early.slots = 9;
    early.size = offsetof(kvf_pool, slots);
    KVF_REQUIRE(kvf_pages_add_pool(pages, &early, nullptr));
    auto out = pool;
    KVF_REQUIRE(kvf_pages_pool(pages, 0, &out));
    CHECK(out.slot_stride_bytes == 128);
    CHECK(out.slots == 0);
    struct {
        kvf_pool pool;
        std::uint64_t newer;
    } late{pool, 0};
    late.pool.size = sizeof late;
    KVF_REQUIRE(kvf_pages_add_pool(pages, &late.pool, nullptr));
    late.newer = 1;
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_pages_add_pool(pages, &late.pool, nullptr));
    late.newer = 0x7777;
    KVF_REQUIRE(kvf_pages_pool(pages, 0, &late.pool));
    CHECK(late.newer == 0);
    CHECK(late.pool.size == sizeof late);
    KVF_REQUIRE(kvf_pages_free(pages));
}

TEST_CASE("C ABI: arguments out of range are refused by name, and change nothing") {
    rank context{"prefill"};
    const auto fails_naming = [](const char* name, int result) {
        const std::string text = kvf_last_error();
        CHECK_MESSAGE(result == KVF_INVALID_ARGUMENT, text);
        CHECK_MESSAGE(text.find(name) != std::string::npos, text);
    };
    kvf_session* session = nullptr;
    auto wrong = options;
    wrong.rid = std::uint64_t{1} << 63;
    fails_naming("rid", kvf_worker_open_tx(context.worker, &wrong, &session));
    wrong = options;
    wrong.deadline_ms = -1;
    fails_naming("deadline_ms", kvf_worker_open_tx(context.worker, &wrong, &session));
    wrong = options;
    wrong.flags = 1u << 31;
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_worker_open_tx(context.worker, &wrong, &session));
    wrong.flags = KVF_PRIORITY_HIGH | KVF_PRIORITY_LOW;
    fails_naming("priority", kvf_worker_open_tx(context.worker, &wrong, &session));
    auto nowhere = source;
    nowhere.dp_rank = -2;
    fails_naming("dp_rank", kvf_worker_open_rx(context.worker, &options, &nowhere, &session));
    fails_naming("kvf_source", kvf_worker_open_rx(context.worker, &options, nullptr, &session));
    fails_naming("session", kvf_worker_open_tx(context.worker, &options, nullptr));
    CHECK(session == nullptr);

    session = context.open_tx(1);
    auto holes = one_slice;
    holes.group_count = 1;
    fails_naming("kvf_slice.groups", kvf_session_send(session, &holes));
    auto slots = sized<kvf_slots>();
    slots.count = 3;
    holes.groups = &slots;
    fails_naming("kvf_slots.slots", kvf_session_send(session, &holes));
    slots.size = 3;
    fails_naming("kvf_slots", kvf_session_send(session, &holes));
    fails_naming("kvf_slice", kvf_session_send(session, nullptr));
    fails_naming("no receiving", kvf_session_receive(session, &one_slice));
    fails_naming("kind", kvf_session_wait(session, KVF_EVENT_READY, 0));
    fails_naming("timeout_ms", kvf_session_wait(session, KVF_EVENT_OUTCOME, -2));
    fails_naming("timeout_ms", kvf_worker_wait(context.worker, -2));
    auto bytes = aux;
    bytes.opaque_bytes = 1;
    fails_naming("opaque", kvf_session_send_aux(session, &bytes));

    std::size_t room = 3, count = 0;
    char text[3] = "??";
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_worker_endpoint(context.worker, text, &room));
    CHECK(room == context.endpoint().size() + 1);
    CHECK(std::string{text} == "??");
    fails_naming("bytes", kvf_worker_endpoint(context.worker, text, nullptr));
    char route[8];
    room = sizeof route;
    KVF_REQUIRE(kvf_worker_memory_route(context.worker, 0, route, &room));
    CHECK(std::string{route} == "mapped");
    fails_naming("1 are published", kvf_worker_memory_route(context.worker, 1, route, &room));
    fails_naming("count", kvf_worker_events(context.worker, nullptr, 0, nullptr));
    fails_naming("kvf_event", kvf_worker_events(context.worker, nullptr, 1, &count));
    fails_naming("fd", kvf_worker_event_fd(context.worker, nullptr));
    fails_naming("role", kvf_worker_set_role(context.worker, 3));
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_worker_set_role(context.worker, KVF_ROLE_CONTEXT));

    kvf_worker* worker = nullptr;
    auto start = sized<kvf_worker_options>();
    start.instance = "prefill";
    fails_naming("place", kvf_worker_start(&start, &worker));
    auto place = one_rank();
    start.place = &place;
    start.port = 65536;
    fails_naming("port", kvf_worker_start(&start, &worker));
    start.port = 0;
    start.route = 4;
    fails_naming("route", kvf_worker_start(&start, &worker));
    start.route = 0;
    start.role = 3;
    fails_naming("kvf_worker_options.role", kvf_worker_start(&start, &worker));
    start.role = KVF_ROLE_CONTEXT;
    auto directory = sized<kvf_directory>();
    start.directory = &directory;
    directory.endpoints = "127.0.0.1:2379";
    fails_naming("is not http://host:port", kvf_worker_start(&start, &worker));
    directory.endpoints = "https://127.0.0.1:2379";
    directory.user = "ranks";
    fails_naming("a user needs a password", kvf_worker_start(&start, &worker));
    directory.size = 4;
    fails_naming("kvf_directory", kvf_worker_start(&start, &worker));
    start.directory = nullptr;
    place.tp_rank = 1;
    fails_naming("tp", kvf_worker_start(&start, &worker));
    place.tp_rank = 0;
    place.layers_per_stage = nullptr;
    fails_naming("layers_per_stage", kvf_worker_start(&start, &worker));
    start.flags = 1u << 31;
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_worker_start(&start, &worker));
    CHECK(worker == nullptr);

    kvf_memory* memory = nullptr;
    fails_naming("bytes", kvf_memory_new("none", 0, 0, &memory));
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_memory_new("odd", 1, 2, &memory));
    fails_naming("bytes", kvf_memory_new_on_device(0, 0, &memory));
    KVF_CHECK_FAILS(KVF_UNSUPPORTED, kvf_memory_new_on_device(4096, 4096, &memory));
    CHECK(memory == nullptr);
    kvf_pages* pages = nullptr;
    auto model = small_model();
    model.kv_heads = 0;
    const auto whole = one_rank();
    fails_naming("kv_heads", kvf_pages_from_model(&model, &whole, 4, &pages));
    model = small_model();
    model.order = 9;
    fails_naming("kvf_model.order", kvf_pages_from_model(&model, &whole, 4, &pages));
    CHECK(pages == nullptr);
    KVF_REQUIRE(kvf_pages_new(&pages));
    fails_naming("group", kvf_pages_add_view(pages, 0, &view));
    KVF_REQUIRE(kvf_pages_add_group(pages, &group, nullptr));
    fails_naming("kvf_view.pool", kvf_pages_add_view(pages, 0, &view));
    KVF_REQUIRE(kvf_pages_add_pool(pages, &pool, nullptr));
    auto roles = view;
    roles.role_count = 1;
    fails_naming("view.roles", kvf_pages_add_view(pages, 0, &roles));
    fails_naming("pool 1 of 1", kvf_pages_pool(pages, 1, nullptr));
    KVF_REQUIRE(kvf_pages_free(pages));
}

TEST_CASE("C ABI: versions, names of errors, levels of the log; the text is this thread's last") {
    CHECK(kvf_abi_version() == KVF_ABI_VERSION);
    CHECK(std::string{kvf_version()}.find('.') != std::string::npos);
    CHECK(kvf_error_name(KVF_OK) == std::string{"none"});
    CHECK(kvf_error_name(KVF_LAYOUT_MISMATCH) == std::string{"layout_mismatch"});
    CHECK(kvf_error_name(KVF_NOT_PROVEN) == std::string{"not_proven"});
    CHECK(kvf_error_name(KVF_NOT_PROVEN + 1) == std::string{"unknown"});
    CHECK(kvf_error_name(-1) == std::string{"unknown"});
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_log_level("loud"));
    CHECK(std::string{kvf_last_error()}.find("loud") != std::string::npos);
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT, kvf_log_level(nullptr));
    KVF_REQUIRE(kvf_log_level("error"));
    CHECK(kvf_last_error() == std::string{});
}
