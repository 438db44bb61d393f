// SPDX-License-Identifier: Apache-2.0
// Small hosts that end in unusual ways, one by argument. Each must end by itself, with status 0.
#include "actors/kvferry.hpp"
#include "messages/trace/log.hpp"
#include "messages/type_ids.hpp"

#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

void check(bool right, const std::string& what) {
    if (right)
        return;
    std::cerr << "wrong: " << what << std::endl;
    std::_Exit(1);
}

template <class T>
T value_of(caf::expected<T> result) {
    check(result.operator bool(), result ? "" : describe(result.error()));
    return std::move(*result);
}

worker_options options_of(const char* instance) {
    worker_options result;
    result.instance = instance;
    result.layout.layers_per_stage = {1};
    return result;
}

session_options session_of(std::uint64_t request) {
    session_options result;
    result.request = {request};
    return result;
}

/// An engine of a server: one object with everything.
struct engine {
    std::unique_ptr<runtime> actors = std::make_unique<runtime>();
    std::optional<worker> rank{value_of(actors->start_worker(options_of("engine")))};
};

std::unique_ptr<engine> the_engine;
engine* never_destroyed = nullptr;

/// Calls back at once: the rank has no pools, so the session ends with an error.
void in_a_callback(worker& rank, std::function<void()> call) {
    auto how = session_of(1);
    how.on_outcome = [call = std::move(call)](const session_finished&) { call(); };
    rank.open_tx(how);
}

void global_engine() {
    the_engine = std::make_unique<engine>();
}

void leaked_engine() {
    never_destroyed = new engine;
}

void runtime_before_its_workers() {
    engine all;
    all.actors.reset();
    check(value_of(all.rank->statistics()).sessions_live == 0, "the rank goes on");
    check(all.rank->stop(5s).operator bool(), "a clean stop");
}

void runtime_inside_a_callback() {
    auto all = std::make_shared<engine>();
    std::promise<void> done;
    in_a_callback(*all->rank, [&done, all]() mutable {
        all->rank.reset();
        all->actors.reset();
        all.reset();
        done.set_value();
    });
    all.reset();
    done.get_future().get();
}

void exit_inside_a_callback() {
    static engine all;
    in_a_callback(*all.rank, [] { std::exit(0); });
    ::pause();
}

/// Four slots of one layer, published.
memfd_pool publish_a_pool(worker& rank) {
    auto pool = value_of(memfd_pool::make("ends", 4096));
    cache_format model;
    model.layers = 1;
    model.kv_heads = 1;
    model.head_dim = 8;
    model.tokens_per_block = 4;
    const auto pages =
        value_of(build_page_table(model, options_of("engine").layout, {.slot_count = 4}));
    value_of(rank.publish({{pool.base(), pool.bytes()}}, pages));
    return pool;
}

/// What the actor of a session had started cannot be known any more when it has died.
void kept() {
    auto* all = new engine;
    auto* pool = new memfd_pool{publish_a_pool(*all->rank)}; // memory in doubt is never freed
    {
        caf::scoped_actor self{all->actors->system()};
        const kvferry::open_tx open{{1}, aux_mode::none, {}, 60s};
        self->request(all->rank->actor(), 10s, open)
            .receive(
                [](const tx_opened& opened) {
                    caf::anon_send_exit(opened.session, caf::exit_reason::kill);
                },
                [](const caf::error& reason) { check(false, describe(reason)); });
    }
    const auto stopped = all->rank->stop(5s);
    check(!stopped && code_of(stopped.error()) == errc::not_proven, "the stop is not proven");
    check(text_of(stopped.error()).find("rid 1") != std::string::npos, "it names what is kept");
    const auto again = all->rank->stop(5s);
    check(!again && code_of(again.error()) == errc::stopped, "it has stopped all the same");
    all->rank.reset();
    const auto begun = std::chrono::steady_clock::now();
    all->actors.reset();
    check(std::chrono::steady_clock::now() - begun < 10s, "~runtime is bounded");
    check(pool->base() != nullptr, "the memory is there");
}

/// A log of the host's own that nobody reads: whoever writes to it stays there, with its locks.
void blocked_log() {
    int ends[2];
    check(::pipe(ends) == 0, "a pipe");
    const std::string line(1024, '.');
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (::write(ends[1], line.data(), line.size()) > 0)
        ;
    ::fcntl(ends[1], F_SETFL, 0);
    ::dup2(ends[1], STDERR_FILENO);
    set_logger(std::make_shared<spdlog::logger>(
        "host", std::make_shared<spdlog::sinks::stderr_color_sink_mt>()));
    the_engine = std::make_unique<engine>();
    logger().critical("{}", line);
}

template <class Result>
bool is_unsupported(const Result& result) {
    return !result && code_of(result.error()) == errc::unsupported;
}

template <class Call>
bool throws(Call&& call) {
    try {
        static_cast<void>(call());
    } catch (const std::runtime_error&) {
        return true;
    }
    return false;
}

bool is_unsupported(const caf::error& result) {
    return code_of(result) == errc::unsupported;
}

void all_calls_in_a_child(engine& all, tx_handle& open_before, piece_handle& piece,
                          const byte_buffer& info) {
    auto& rank = *all.rank;
    check(is_unsupported(rank.statistics()), "statistics");
    check(is_unsupported(rank.sessions()), "sessions");
    check(is_unsupported(rank.sessions({}, 1s)), "sessions within a second");
    check(is_unsupported(rank.info()), "info");
    check(is_unsupported(rank.local_info()), "local_info");
    check(is_unsupported(rank.publish({}, {})), "publish");
    check(is_unsupported(rank.unpublish(1s)), "unpublish");
    check(is_unsupported(rank.connect({rank.info_endpoint()}, 1s)), "connect");
    check(is_unsupported(rank.add_instance({info})), "add_instance");
    check(is_unsupported(rank.remove_instance("@other")), "remove_instance");
    check(is_unsupported(rank.set_role(instance_role::context)), "set_role");
    check(is_unsupported(rank.stop(1s)), "stop");
    check(is_unsupported(rank.drain(1s)), "drain");
    check(!rank.actor(), "actor");
    check(is_unsupported(all.actors->start_worker(options_of("child"))), "start_worker");
    check(is_unsupported(open_before.status()), "status");
    check(is_unsupported(open_before.extend(1s)), "extend");
    check(is_unsupported(open_before.slots_in_doubt()), "slots_in_doubt");
    check(code_of(open_before.outcome().get().error) == errc::unsupported, "outcome");
    check(throws([&] { return open_before.released().get(); }), "released");
    check(throws([&] { return &all.actors->system(); }), "system");
    check(code_of(piece.get()) == errc::unsupported, "piece");
    open_before.cancel();
    std::promise<void> outcome_told, release_told;
    auto how = session_of(2);
    how.on_outcome = [&](const session_finished&) { outcome_told.set_value(); };
    how.on_released = [&](const session_released&) { release_told.set_value(); };
    auto tx = rank.open_tx(how);
    const auto why = tx.outcome().get().error;
    check(code_of(why) == errc::unsupported, "open_tx");
    check(text_of(why).find("forked after kvferry started") != std::string::npos, "the reason");
    check(code_of(tx.send({}).get()) == errc::unsupported, "send");
    outcome_told.get_future().get();
    release_told.get_future().get();
    const auto rx = rank.open_rx(session_of(3), {rank.info_endpoint()});
    check(is_unsupported(rx.outcome().get().error), "open_rx");
    check(is_unsupported(rx.receive({}).get()), "receive");
}

/// The child ends by exit(), with all destructors of static objects and of the engine's.
void forked_child() {
    the_engine = std::make_unique<engine>();
    std::optional<runtime> twice{std::in_place};
    auto open = the_engine->rank->open_tx(session_of(7));
    auto ended = open.outcome().get(); // no pools
    check(code_of(ended.error) == errc::missing_layout, "a session without pools");
    static_cast<void>(new memfd_pool{publish_a_pool(*the_engine->rank)}); // outlives the engine
    auto lives = the_engine->rank->open_tx(session_of(8));
    auto piece =
        lives.send({.tokens = {0, 4}, .prompt_tokens = 4, .groups = {{0, {1}}}, .last = true});
    auto& rank = *the_engine->rank;
    auto other = options_of("other");
    other.info_server = false;
    auto carried = value_of(twice->start_worker(other));
    static_cast<void>(new memfd_pool{publish_a_pool(carried)});
    const auto info = value_of(carried.local_info());
    // Waits for the session, with the lock of all that ends the rank: it stays locked in the child.
    std::promise<void> begun;
    std::thread withdraws{[&] {
        begun.set_value();
        check(!rank.unpublish(20s), "the pools are withdrawn");
    }};
    begun.get_future().get();
    for (int i = 0; i < 20; ++i)
        check(rank.statistics().operator bool(), "statistics in the parent");
    const auto child = ::fork();
    if (child == 0) {
        ::alarm(20);
        all_calls_in_a_child(*the_engine, lives, piece, info);
        twice.reset();
        the_engine.reset();
        std::exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0,
          "the child ended with " + std::to_string(status));
    check(value_of(the_engine->rank->statistics()).sessions_live == 1, "the parent goes on");
    lives.cancel();
    withdraws.join();
}

const std::map<std::string, void (*)()> cases{
    {"global_engine", global_engine},
    {"leaked_engine", leaked_engine},
    {"runtime_before_its_workers", runtime_before_its_workers},
    {"runtime_inside_a_callback", runtime_inside_a_callback},
    {"exit_inside_a_callback", exit_inside_a_callback},
    {"kept", kept},
    {"blocked_log", blocked_log},
    {"forked_child", forked_child},
};

} // namespace

int main(int count, char** words) {
    ::alarm(40); // SIGALRM ends what hangs
    const auto found = cases.find(count > 1 ? words[1] : "");
    if (found == cases.end()) {
        for (const auto& [name, run] : cases)
            std::cout << name << "\n";
        return 2;
    }
    found->second();
    return 0;
}
