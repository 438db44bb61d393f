// SPDX-License-Identifier: Apache-2.0
// Whole transfers through the facade: real actors, real threads, real bytes, one process.
#include "actors/host/loopback_world.hpp"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/actors/host/two_devices.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <atomic>
#include <cerrno>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format format_of(std::uint32_t layers, std::uint32_t heads) {
    cache_format format;
    format.layers = layers;
    format.kv_heads = heads;
    format.head_dim = 16;
    format.tokens_per_block = 8;
    return format;
}

worker_options options_for(runtime& system, bool loopback) {
    worker_options options;
    options.bounds.session_deadline = std::chrono::seconds{20};
    if (loopback)
        options.world = std::make_shared<loopback_world>(system.system());
    return options;
}

void send(test_instance& from, test_request& request, rid id, aux_mode aux) {
    for (auto& rank : from.ranks()) {
        auto session = rank.transfers.open_tx({id, aux, {}, {}, {}});
        session.send(from.slice(rank));
        if (aux == aux_mode::required)
            session.send_aux({{42}, {1, 2, 3}, 24, 0, {}});
        request.sending.push_back(session);
    }
}

void receive(test_instance& to, test_instance& from, test_request& request, rid id, aux_mode aux) {
    for (auto& rank : to.ranks()) {
        auto session = rank.transfers.open_rx({id, aux, {}, {}, {}}, {from.endpoint(), 0});
        session.receive(to.slice(rank));
        request.receiving.push_back(session);
    }
}

} // namespace

TEST_CASE("Transfer: every byte arrives, whatever TP and PP the two sides have") {
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        for (auto [context_tp, context_pp, generation_tp, generation_pp] :
             std::vector<std::array<std::uint32_t, 4>>{
                 {1, 1, 1, 1}, {2, 1, 1, 2}, {1, 2, 2, 1}, {2, 2, 4, 1}}) {
            CAPTURE(context_tp);
            CAPTURE(context_pp);
            CAPTURE(generation_tp);
            CAPTURE(generation_pp);
            runtime system;
            auto base = options_for(system, loopback);
            auto format = format_of(5, 4);
            test_instance context{system, "prefill", format, context_tp, context_pp, 6, base};
            test_instance generation{system,        "decode", format, generation_tp,
                                     generation_pp, 6,        base};
            context.fill();
            test_request request;
            send(context, request, {1}, aux_mode::none);
            receive(generation, context, request, {1}, aux_mode::none);
            request.expect(session_state::kv_transferred);
            CHECK(generation.wrong_bytes() == 0);
        }
    }
}

TEST_CASE("Transfer: generation first, the aux record comes with the KV cache") {
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        runtime system;
        auto base = options_for(system, loopback);
        auto format = format_of(4, 4);
        test_instance context{system, "prefill", format, 2, 1, 3, base};
        test_instance generation{system, "decode", format, 1, 2, 3, base};
        context.fill();
        test_request request;
        receive(generation, context, request, {9}, aux_mode::required);
        send(context, request, {9}, aux_mode::required);
        request.expect(session_state::fully_transferred);
        CHECK(generation.wrong_bytes() == 0);
        for (auto& session : request.receiving) {
            CHECK(session.outcome().get().aux.first_tokens == std::vector<std::int32_t>{42});
            CHECK(session.outcome().get().aux.draft_tokens == std::vector<std::int32_t>{1, 2, 3});
        }
    }
}

TEST_CASE("Transfer: a cache that the context cannot fill is refused, with aux or without, and "
          "filled as far as it goes with consent") {
    runtime system;
    auto base = options_for(system, true);
    test_instance context{system, "prefill", format_of(4, 2), 1, 1, 3, base};
    test_instance generation{system, "decode", format_of(5, 2), 1, 1, 3, base};
    context.fill();
    for (auto aux : {aux_mode::none, aux_mode::required}) {
        CAPTURE(aux);
        auto& rank = generation.ranks()[0];
        session_options options;
        options.request = {aux == aux_mode::none ? 1u : 2u};
        options.aux = aux;
        auto refused = rank.transfers.open_rx(options, {context.endpoint(), 0});
        refused.receive(generation.slice(rank));
        const auto outcome = refused.outcome().get();
        CHECK(code_of(outcome.error) == errc::layout_mismatch);
        CHECK(text_of(outcome.error).find("nobody would fill 4") != std::string::npos);
        refused.released().get();

        // Had the context opened its session, it would have been told at once, as it is now.
        auto told = context.ranks()[0].transfers.open_tx(options);
        told.send(context.slice(context.ranks()[0]));
        CHECK(code_of(told.outcome().get().error) == errc::layout_mismatch);
        told.released().get();

        options.request.value += 2;
        options.allowed.layers = true;
        test_request request;
        send(context, request, options.request, aux);
        request.receiving.push_back(rank.transfers.open_rx(options, {context.endpoint(), 0}));
        request.receiving[0].receive(generation.slice(rank));
        request.expect(aux == aux_mode::none ? session_state::kv_transferred
                                             : session_state::fully_transferred);
        CHECK(request.receiving[0].outcome().get().layers_skipped == std::vector<std::uint32_t>{4});
    }
}

TEST_CASE("Transfer: ranks whose hosts name different models end by name, with both values") {
    runtime system;
    auto base = options_for(system, true);
    base.fingerprint = "llama bf16";
    test_instance context{system, "prefill", format_of(4, 2), 1, 1, 3, base};
    base.fingerprint = "llama fp8 in bf16's clothes";
    test_instance generation{system, "decode", format_of(4, 2), 1, 1, 3, base};
    auto& rank = generation.ranks()[0];
    auto session = rank.transfers.open_rx(options_of(1), {context.endpoint(), 0});
    session.receive(generation.slice(rank));
    const auto outcome = session.outcome().get();
    CHECK(code_of(outcome.error) == errc::layout_mismatch);
    for (const auto* value : {"\"llama bf16\"", "\"llama fp8 in bf16's clothes\""})
        CHECK_MESSAGE(text_of(outcome.error).find(value) != std::string::npos,
                      text_of(outcome.error));
}

TEST_CASE("Transfer: memory of a peer on this machine that cannot be mapped goes direct, and both "
          "outcomes say why") {
    runtime system;
    auto base = options_for(system, false);
    test_instance context{system, "prefill", format_of(4, 2), 1, 1, 3, base};
    test_instance generation{system, "decode", format_of(4, 2), 1, 1, 3, base};
    context.fill();
    failing_call fails{"mmap peer", ENOMEM};
    test_request request;
    send(context, request, {1}, aux_mode::none);
    receive(generation, context, request, {1}, aux_mode::none);
    request.expect(session_state::kv_transferred);
    CHECK(generation.wrong_bytes() == 0);
    for (const auto& outcome :
         {request.sending[0].outcome().get(), request.receiving[0].outcome().get()}) {
        REQUIRE(outcome.peers.size() == 1);
        const auto& route = outcome.peers[0].route.text;
        CHECK_MESSAGE(route.starts_with("direct: region 0 of decode/0 is not mapped: mmap"), route);
    }
}

TEST_CASE(
    "Transfer: pools that peers could not map safely are refused when they are published, with "
    "what to do") {
    runtime system;
    auto options = options_for(system, false);
    options.instance = "decode";
    options.layout.layers_per_stage = {4};
    const auto pages = build_page_table(format_of(4, 2), options.layout, {4, 0, 0});
    REQUIRE(pages);
    const auto bytes = footprint_bytes(pages->pools[0]);
    unique_fd shrinks{::memfd_create("shrinks", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(shrinks.get(), static_cast<off_t>(bytes)) == 0);
    std::vector<std::byte> memory(bytes);
    auto started = system.start_worker(options);
    REQUIRE(started);
    for (auto fd : {shrinks.get(), -1}) {
        const auto published = started->publish(
            {{memory.data(), memory.size(), memory_kind::host_shared, fd}}, *pages);
        REQUIRE_FALSE(published);
        CHECK(code_of(published.error()) == errc::registration_failed);
        CHECK(text_of(published.error()).find("seal its memfd with F_SEAL_SHRINK")
              != std::string::npos);
    }
    CHECK(
        started->publish({{memory.data(), memory.size(), memory_kind::host_private, -1}}, *pages));
}

TEST_CASE("Transfer: a cancelled request ends as cancelled on both sides and releases its pages") {
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        runtime system;
        auto base = options_for(system, loopback);
        auto format = format_of(4, 2);
        test_instance context{system, "prefill", format, 1, 1, 3, base};
        test_instance generation{system, "decode", format, 1, 1, 3, base};
        test_request request;
        receive(generation, context, request, {3}, aux_mode::none);
        auto sending = context.ranks()[0].transfers.open_tx({{3}, aux_mode::none, {}, {}, {}});
        request.sending.push_back(sending);
        sending.cancel("not wanted any more");
        request.expect(session_state::cancelled);
    }
}

TEST_CASE("Transfer: a request too long for its peer ends by name, and the next ones go well") {
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        runtime system;
        auto base = options_for(system, loopback);
        auto format = format_of(4, 2);
        test_instance context{system, "prefill", format, 1, 1, 3, base};
        test_instance generation{system, "decode", format, 1, 1, 3, base};
        context.fill();
        auto& rank = generation.ranks()[0];
        auto slice = generation.slice(rank);
        slice.groups[0].slots.assign(5'000'000, 0);
        auto session =
            rank.transfers.open_rx({{1}, aux_mode::none, {}, {}, {}}, {context.endpoint(), 0});
        session.receive(slice);
        CHECK(code_of(session.outcome().get().error) == errc::limit_exceeded);
        CHECK(session.released().wait_for(std::chrono::seconds{20}) == std::future_status::ready);
        for (std::uint64_t id : {2, 3}) {
            test_request request;
            send(context, request, {id}, aux_mode::none);
            receive(generation, context, request, {id}, aux_mode::none);
            request.expect(session_state::kv_transferred);
        }
        CHECK(generation.wrong_bytes() == 0);
    }
}

TEST_CASE(
    "Transfer: pools on devices, on both sides or one, go by the devices of the sending rank") {
    for (auto [source, target] : {std::pair{memory_kind::cuda, memory_kind::cuda},
                                  std::pair{memory_kind::cuda, memory_kind::host_shared},
                                  std::pair{memory_kind::host_shared, memory_kind::cuda}}) {
        CAPTURE(to_string(source));
        CAPTURE(to_string(target));
        runtime system;
        auto base = options_for(system, true);
        base.devices.also = {0};
        base.bounds.digests = digest_level::memory;
        auto format = format_of(5, 4);
        test_instance context{system, "prefill", format, 2, 1, 6, base, source};
        test_instance generation{system, "decode", format, 1, 2, 6, base, target};
        context.fill();
        test_request request;
        send(context, request, {1}, aux_mode::required);
        receive(generation, context, request, {1}, aux_mode::required);
        request.expect(session_state::fully_transferred);
        CHECK(generation.wrong_bytes() == 0);
        for (auto& session : request.receiving)
            for (const auto& peer : session.outcome().get().peers) {
                CHECK(peer.route.text == "mapped by cuda:0");
                CHECK(peer.digests == 1);
            }
    }
}

TEST_CASE(
    "Transfer: pools on devices go in staged pieces to where no mapping leads, and where that "
    "is asked for") {
    for (auto [target, asked] : {std::pair{memory_kind::host_private, route_choice::automatic},
                                 std::pair{memory_kind::host_shared, route_choice::staged}}) {
        CAPTURE(to_string(target));
        runtime system;
        auto base = options_for(system, true);
        base.route = asked;
        base.bounds.digests = digest_level::memory;
        base.bounds.staging_piece_bytes_max = 1024;
        base.bounds.staging_bytes_max = 4096; // one transfer passes through it several times
        auto format = format_of(5, 4);
        test_instance context{system, "prefill", format, 2, 1, 6, base, memory_kind::cuda};
        test_instance generation{system, "decode", format, 1, 2, 6, base, target};
        context.fill();
        test_request first, second;
        for (auto [request, id] : {std::pair{&first, rid{1}}, std::pair{&second, rid{2}}}) {
            send(context, *request, id, aux_mode::none);
            receive(generation, context, *request, id, aux_mode::none);
        }
        first.expect(session_state::kv_transferred);
        second.expect(session_state::kv_transferred);
        CHECK(generation.wrong_bytes() == 0);
        for (auto& session : first.receiving)
            for (const auto& peer : session.outcome().get().peers) {
                CHECK(peer.route.text.starts_with("staged by cuda:0: "));
                CHECK(peer.digests == 1);
            }
    }
}

TEST_CASE("Transfer: memory on a device that no mapping reaches is written through staging memory, "
          "out of devices and out of host memory") {
    for (bool loopback : {true, false})
        for (bool asked : {true, false})
            for (auto source : {memory_kind::cuda, memory_kind::host_shared}) {
                CAPTURE(loopback);
                CAPTURE(asked);
                CAPTURE(to_string(source));
                runtime system;
                auto base = options_for(system, loopback);
                base.devices.twins = true;
                base.bounds.digests = digest_level::memory;
                base.bounds.staging_piece_bytes_max = 1024;
                base.bounds.staging_bytes_max = 4096; // many pieces, few at a time
                if (asked)
                    base.route = route_choice::staged;
                else
                    base.same_host_link = false;
                auto format = format_of(5, 4);
                test_instance context{system, "prefill", format, 2, 1, 6, base, source};
                test_instance generation{system, "decode", format, 1,
                                         2,      6,        base,   memory_kind::cuda};
                context.fill();
                std::vector<test_request> requests(4);
                for (std::uint64_t number = 0; number < requests.size(); ++number) {
                    send(context, requests[number], {number}, aux_mode::required);
                    receive(generation, context, requests[number], {number}, aux_mode::required);
                }
                for (auto& request : requests)
                    request.expect(session_state::fully_transferred);
                CHECK(generation.wrong_bytes() == 0);
                const std::string by = source == memory_kind::cuda ? " by cuda:0" : "";
                for (auto& session : requests[0].receiving)
                    for (const auto& peer : session.outcome().get().peers) {
                        CHECK_MESSAGE(
                            peer.route.text.starts_with("staged" + by + " into device memory: "),
                            peer.route.text);
                        CHECK(peer.digests == 1);
                    }
            }
}

TEST_CASE("Transfer: a rank's pools on two devices go to a rank with pools on two devices, mapped "
          "and staged") {
    auto in_host_memory = [](int device, std::uint64_t bytes) {
        auto memory = std::make_shared<std::vector<std::byte>>(bytes);
        return region_memory{
            {memory->data(), bytes, memory_kind::cuda, -1, device},
            [memory](auto from) { std::copy(from.begin(), from.end(), memory->begin()); },
            [memory](auto to) { std::copy(memory->begin(), memory->end(), to.begin()); }};
    };
    for (bool loopback : {true, false})
        for (auto route : {route_choice::automatic, route_choice::staged}) {
            CAPTURE(loopback);
            CAPTURE(to_string(route));
            runtime system;
            auto base = options_for(system, loopback);
            base.devices.twins = true;
            base.route = route;
            base.bounds.staging_piece_bytes_max = 4096;
            base.bounds.staging_bytes_max = 3 * 4096;
            two_device_ranks ranks{system, format_of(3, 2), base, {0, 1}, in_host_memory};
            for (std::uint64_t request = 1; request <= 3; ++request)
                ranks.serve(request, route == route_choice::staged
                                         ? "staged by cuda:0 into device memory: asked for"
                                         : "mapped by cuda:0");
        }
}

TEST_CASE("Transfer: staging memory that has no room for one piece refuses transfers by name") {
    runtime system;
    auto base = options_for(system, false);
    base.devices.twins = true;
    base.same_host_link = false;
    auto format = format_of(4, 2);
    test_instance context{system, "prefill", format, 1, 1, 3, base};
    base.bounds.staging_bytes_max = base.bounds.staging_piece_bytes_max / 2;
    test_instance generation{system, "decode", format, 1, 1, 3, base, memory_kind::cuda};
    context.fill();
    test_request request;
    send(context, request, {1}, aux_mode::none);
    receive(generation, context, request, {1}, aux_mode::none);
    request.expect(session_state::error);
    const auto text = text_of(request.receiving[0].outcome().get().error);
    CHECK_MESSAGE(text.find("less than one chunk") != std::string::npos, text);
}

TEST_CASE("Transfer: a slice that waits for an event of the host is not read before it") {
    for (auto route : {route_choice::automatic, route_choice::staged}) {
        CAPTURE(to_string(route));
        runtime system;
        auto base = options_for(system, true);
        base.route = route;
        base.bounds.staging_piece_bytes_max = 1024;
        auto format = format_of(4, 2);
        test_instance context{system, "prefill", format, 1, 1, 3, base, memory_kind::cuda};
        test_instance generation{system, "decode", format, 1, 1, 3, base, memory_kind::cuda};
        std::atomic<bool> computed{false}, read{false};
        test_request request;
        receive(generation, context, request, {5}, aux_mode::none);
        auto sending = context.ranks()[0].transfers.open_tx({{5}, aux_mode::none, {}, {}, {}});
        auto piece = sending.send(context.slice(context.ranks()[0]), {&computed, &read});
        request.sending.push_back(sending);
        while (sending.status()->waits_for.find("transfers to rank 0") == std::string::npos)
            std::this_thread::yield(); // until the copy, or the first gather, waits for the event
        CHECK_FALSE(read);
        context.fill(); // prefill
        computed = true;
        CHECK_FALSE(piece.get());
        CHECK(read);
        request.expect(session_state::kv_transferred);
        CHECK(generation.wrong_bytes() == 0);
    }
}

TEST_CASE("Transfer: device events of a slice that no device copies end it by name") {
    runtime system;
    auto base = options_for(system, true);
    auto format = format_of(4, 2);
    test_instance context{system, "prefill", format, 1, 1, 3, base};
    test_instance generation{system, "decode", format, 1, 1, 3, base};
    std::atomic<bool> event{true};
    test_request request;
    receive(generation, context, request, {6}, aux_mode::none);
    auto sending = context.ranks()[0].transfers.open_tx({{6}, aux_mode::none, {}, {}, {}});
    request.sending.push_back(sending);
    CHECK(code_of(sending.send(context.slice(context.ranks()[0]), {&event, nullptr}).get())
          == errc::unsupported);
    request.expect(session_state::error);
}
