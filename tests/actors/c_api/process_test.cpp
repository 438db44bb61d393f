// SPDX-License-Identifier: Apache-2.0
// A host that forks, and one that ends.
#include "tests/actors/c_api/c_rank.hpp"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace c_api_test;

namespace {

/// Exit status of `child`, run in a forked process; -1 when it was killed.
template <class Child>
int status_of(Child child) {
    const auto process = ::fork();
    if (process == 0)
        ::_exit(child());
    int status = -1;
    ::waitpid(process, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

long threads_now() {
    const std::filesystem::directory_iterator tasks{"/proc/self/task"};
    return std::distance(begin(tasks), end(tasks));
}

} // namespace

TEST_CASE("C ABI: a forked child is refused by name, and its parent goes on") {
    rank context{"prefill"};
    rank generation{"decode"};
    auto* session = context.open_tx(1);
    const std::vector<std::int32_t> slots{1};
    CHECK(status_of([&] {
              auto options = sized<kvf_worker_options>();
              kvf_worker* worker = nullptr;
              const slice one{slots};
              auto event = sized<kvf_event>();
              std::size_t count = 0;
              for (int code :
                   {kvf_worker_start(&options, &worker), kvf_session_send(session, &one),
                    kvf_session_wait(session, KVF_EVENT_OUTCOME, -1),
                    kvf_worker_events(context.worker, &event, 1, &count),
                    kvf_worker_stop(context.worker, 1000), kvf_worker_free(context.worker)})
                  if (code != KVF_UNSUPPORTED
                      || std::string{kvf_last_error()}.find("forked") == std::string::npos)
                      return 1;
              return 0;
          })
          == 0);
    context.fill(1, 0x33);
    KVF_REQUIRE(kvf_session_send(session, std::make_unique<slice>(slots).get()));
    auto* receiving = generation.open_rx(1, context.endpoint());
    KVF_REQUIRE(kvf_session_receive(receiving, std::make_unique<slice>(slots).get()));
    CHECK(outcome_of(receiving).code == KVF_OK);
    wait_released(receiving);
    CHECK(generation.holds(1, 0x33));
}

TEST_CASE(
    "C ABI: a worker may be freed by another thread than those that used it, and leaves none") {
    { rank first{"prefill"}; } // what UCX starts once
    const auto before = threads_now();
    auto context = std::make_unique<rank>("prefill");
    KVF_REQUIRE(kvf_session_cancel(context->open_tx(1), nullptr));
    std::thread{[&] { context.reset(); }}.join();
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (threads_now() > before && std::chrono::steady_clock::now() < patience)
        std::this_thread::yield();
    CHECK(threads_now() <= before);
}

TEST_CASE("C ABI: signals stay the host's") {
    for (int signal : {SIGHUP, SIGBUS}) { // the other crash signals are doctest's
        struct sigaction now {};
        REQUIRE(::sigaction(signal, nullptr, &now) == 0);
        const bool untouched = now.sa_handler == SIG_DFL;
        CHECK(untouched);
    }
}

TEST_CASE("C ABI: memory that is freed first is held until its worker has ended") {
    rank context{"prefill"};
    rank generation{"decode"};
    KVF_REQUIRE(kvf_memory_free(std::exchange(generation.memory, nullptr)));
    const std::vector<std::int32_t> slots{1};
    context.fill(1, 0x44);
    auto* sending = context.open_tx(1);
    KVF_REQUIRE(kvf_session_send(sending, std::make_unique<slice>(slots).get()));
    auto* receiving = generation.open_rx(1, context.endpoint());
    KVF_REQUIRE(kvf_session_receive(receiving, std::make_unique<slice>(slots).get()));
    CHECK(outcome_of(receiving).code == KVF_OK);
    wait_released(receiving);
    CHECK(generation.holds(1, 0x44));
}
