// SPDX-License-Identifier: Apache-2.0
// Ranks as processes (`kvferry worker`), spoken to in JSON lines; never left behind.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace kvferry::testing {

using json = nlohmann::json;
using namespace std::chrono_literals;

/// The program under test.
std::string rank_program();

/// Where a rank's process runs, beyond its flags.
struct launch {
    /// The program that runs it, with arguments: {"unshare", "--pid", ...}.
    std::vector<std::string> under;
    /// Its standard error; -1: a file for log().
    int log = -1;
    /// Instead of the program under test: one of another release.
    std::string program = {};
};

/// One rank. Every wait has a deadline; when it passes, the wait throws with everything that the
/// rank has said.
class rank_process {
public:
    using predicate = std::function<bool(const json&)>;

    explicit rank_process(const std::vector<std::string>& arguments, const launch& = {});
    ~rank_process();
    rank_process(const rank_process&) = delete;
    rank_process& operator=(const rank_process&) = delete;

    /// Waits for `ready`. Not part of the constructor, so that several ranks can start at the same
    /// time.
    const json& ready();
    std::string info_endpoint() { return ready().at("info_endpoint"); }

    /// Removes and returns the first event of this name (for which `which` holds).
    json wait_for(const std::string& event, const predicate& which = {},
                  std::chrono::milliseconds limit = 20s);
    /// The same for the first event, whatever it is.
    json first_event();
    json outcome(std::uint64_t rid, std::chrono::milliseconds limit = 20s);
    json released(std::uint64_t rid, std::chrono::milliseconds limit = 20s);

    /// Sends a command and waits for its answer.
    json ask(const json& command);
    /// Returns events of this name that no call has taken yet.
    std::size_t unread(const std::string& event) const;

    void kill();
    /// SIGTERM.
    void terminate();
    /// Returns when all threads have stopped.
    void freeze();
    void thaw();
    /// Ends the input, waits for `stopped`, for the end and returns the exit status.
    int stop(json* stopped = nullptr);
    /// Waits for the end; returns the status as waitpid gives it.
    int wait_for_end(std::chrono::milliseconds limit = 20s);

    /// Ends all its connections of the fabric, over TCP as a reset on the way would, and those of
    /// shared rings: neither process is touched.
    /// Returns how many there were.
    std::size_t break_connections() const;

    /// Of the process started: of the program that runs the rank, if there is one.
    pid_t pid() const { return pid_; }
    std::size_t descriptors() const;
    std::size_t children() const;
    /// Nanoseconds, of all threads that it has.
    std::uint64_t processor_time() const;
    std::string log() const;
    /// What it was told, what it said and what it logged.
    std::string story() const;

private:
    void read_more(std::chrono::steady_clock::time_point deadline, const std::string& what);
    std::string how_it_ended() const;
    [[noreturn]] void give_up(const std::string& what) const;

    pid_t pid_ = -1;
    unique_fd pidfd_;
    unique_fd input_;
    unique_fd output_;
    unique_fd log_;
    std::string partial_;
    std::list<json> events_;
    std::vector<std::string> history_;
    json ready_;
    bool ended_ = false;
    int status_ = 0;
};

/// All ranks of one instance.
struct instance_processes {
    struct options {
        std::string name;
        unsigned tp = 1;
        unsigned pp = 1;
        std::string model;
        unsigned slots = 64;
        /// Further flags of every rank.
        std::vector<std::string> flags;
        launch how = {};
    };

    explicit instance_processes(options);

    rank_process& operator[](std::size_t rank) { return *ranks[rank]; }
    std::size_t size() const { return ranks.size(); }
    auto begin() { return ranks.begin(); }
    auto end() { return ranks.end(); }

    /// Starts a rank again; rank 0 keeps its port.
    void restart(std::size_t rank);
    /// Program (empty: the one under test) and further flags of the ranks that are started from now
    /// on.
    void use(std::string program, std::vector<std::string> flags) {
        how_.how.program = std::move(program);
        how_.flags = std::move(flags);
    }

    std::string endpoint;
    std::vector<std::unique_ptr<rank_process>> ranks;

private:
    std::unique_ptr<rank_process> start(std::size_t rank,
                                        const std::vector<std::string>& more) const;

    options how_;
};

} // namespace kvferry::testing
