// SPDX-License-Identifier: Apache-2.0
// Ranks on machines that are short of something: descriptors, threads, shared memory.
#include "tests/processes/end_to_end.hpp"

#include <arpa/inet.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <set>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

namespace kvferry::testing {

namespace {

namespace fs = std::filesystem;
using clock = std::chrono::steady_clock;

bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t result = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1))
        ++result;
    return result;
}

/// Answers of the rank pass the time until something is so.
template <class Condition>
void await(rank_process& rank, Condition&& so) {
    const auto deadline = clock::now() + 20s;
    while (!so()) {
        rank.ask({{"do", "statistics"}});
        REQUIRE_MESSAGE(clock::now() < deadline, rank.log());
    }
}

// -- descriptors --------------------------------------------------------------------------------

/// More than a rank and two peers need, with the reserve.
constexpr std::size_t descriptors_max = 160;

launch with_few_descriptors() {
    const auto limit = std::to_string(descriptors_max);
    return {{"prlimit", "--nofile=" + limit + ":" + limit}};
}

/// The port at which the wire listens: the one beside that of the rank-info server.
std::uint16_t wire_port(rank_process& rank) {
    const auto process = "/proc/" + std::to_string(rank.pid());
    std::set<std::string> sockets;
    std::error_code gone;
    for (const auto& entry : fs::directory_iterator{process + "/fd"})
        sockets.insert(fs::read_symlink(entry.path(), gone).string());
    const auto endpoint = rank.info_endpoint();
    const auto info_port = std::stoul(endpoint.substr(endpoint.rfind(':') + 1));
    for (const char* family : {"/net/tcp", "/net/tcp6"}) {
        std::ifstream table{process + family};
        std::string line;
        std::getline(table, line);
        while (std::getline(table, line)) {
            std::istringstream words{line};
            std::string number, local, remote, state, queues, timer, retries, user, timeout, inode;
            words >> number >> local >> remote >> state >> queues >> timer >> retries >> user
                >> timeout >> inode;
            const auto port = std::stoul(local.substr(local.find(':') + 1), nullptr, 16);
            if (state == "0A" && port != info_port && sockets.contains("socket:[" + inode + "]"))
                return static_cast<std::uint16_t>(port);
        }
    }
    FAIL("the wire does not listen");
    return 0;
}

/// Connections that say nothing.
class crowd {
public:
    /// False when nobody listens there.
    bool join(std::uint16_t port) {
        unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        REQUIRE(socket);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address)
                != 0
            && errno != EINPROGRESS)
            return false;
        members_.push_back(std::move(socket));
        return true;
    }
    void leave() { members_.clear(); }

private:
    std::vector<unique_fd> members_;
};

std::uint16_t info_port(rank_process& rank) {
    const auto endpoint = rank.info_endpoint();
    return static_cast<std::uint16_t>(std::stoul(endpoint.substr(endpoint.rfind(':') + 1)));
}

/// Processor time of the threads of this name.
std::chrono::nanoseconds used(const rank_process& rank, const std::string& name) {
    std::chrono::nanoseconds result{0};
    for (const auto& task :
         fs::directory_iterator{"/proc/" + std::to_string(rank.pid()) + "/task"}) {
        std::string called;
        std::int64_t ran = 0;
        std::getline(std::ifstream{task.path() / "comm"}, called);
        if (called == name && std::ifstream{task.path() / "schedstat"} >> ran)
            result += std::chrono::nanoseconds{ran};
    }
    return result;
}

/// The threads of this name do not spin while the rank gives so many answers.
void expect_rest(rank_process& rank, const std::string& threads) {
    const auto began = clock::now();
    const auto before = used(rank, threads);
    for (int i = 0; i < 500; ++i)
        rank.ask({{"do", "statistics"}});
    const auto spent = used(rank, threads) - before;
    const auto passed = clock::now() - began;
    CHECK(before > 0ns);
    CHECK_MESSAGE(10 * spent < passed, spent.count() << " of " << passed.count() << " ns");
}

void expect_service(instance_processes& context, instance_processes& generation,
                    std::uint64_t rid) {
    const auto x = whole_blocks(rid, 2, 16);
    receive(generation, context.endpoint, x);
    send(context, x);
    expect_success(generation[0], x, "");
    context[0].outcome(rid);
    expect_content(generation[0], x);
}

json failure(instance_processes& context, instance_processes& generation, std::uint64_t rid) {
    receive(generation, context.endpoint, whole_blocks(rid, 2, 16));
    const auto outcome = generation[0].outcome(rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == "ERROR");
    generation[0].released(rid); // a request may have left ahead of the error
    return outcome.at("error");
}

instance_processes::options plain(const std::string& name, const launch& how = {}) {
    return {name, 1, 1, small_model, 64, {}, how};
}

/// UCX keeps every stranger at its port; our own door lets go of them. Without the same-host link,
/// or ranks would meet in shared memory.
instance_processes::options over_ucx(const std::string& name, const launch& how = {}) {
    auto result = plain(name, how);
    result.flags = {"--wire", "ucx", "--no-same-host-link"};
    return result;
}

} // namespace

TEST_CASE("limits: a rank-info server without descriptors lets nobody in, says so once, waits "
          "without spinning, and serves again") {
    instance_processes context{plain("context", with_few_descriptors())};
    auto& rank = context[0];
    const auto port = info_port(rank);
    crowd all;
    for (std::size_t i = 0; i < 2 * descriptors_max; ++i)
        REQUIRE(all.join(port));
    const std::string told = "lets nobody in";
    await(rank, [&] { return count(rank.log(), told) > 0; });
    expect_rest(rank, "caf.io.mpx");
    CHECK(count(rank.log(), told) == 1);
    all.leave();
    instance_processes generation{plain("generation")};
    expect_service(context, generation, 1);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("limits: a link that would take one of the last descriptors is refused by name, and "
          "comes up when there are some again") {
    instance_processes context{over_ucx("context", with_few_descriptors())};
    instance_processes generation{over_ucx("generation")};
    auto& rank = context[0];
    const auto port = wire_port(rank);
    crowd all;
    while (rank.descriptors() < descriptors_max - 40) {
        const auto before = rank.descriptors();
        REQUIRE(all.join(port));
        await(rank, [&] { return rank.descriptors() > before; });
    }
    const auto refused = failure(context, generation, 1);
    CHECK(refused.at("code") == "limit_exceeded");
    CHECK(refused.at("text").get<std::string>().find("ulimit -n") != std::string::npos);
    all.leave();
    await(rank, [&] { return rank.descriptors() < descriptors_max / 2; });
    expect_service(context, generation, 2);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("limits: when UCX closes its port for want of a descriptor, the rank says so, goes on "
          "with its links, and new peers get an error") {
    instance_processes context{over_ucx("context", with_few_descriptors())};
    instance_processes generation{over_ucx("generation")};
    auto& rank = context[0];
    expect_service(context, generation, 1);
    const auto port = wire_port(rank);
    crowd all;
    for (std::size_t i = 0; i < 2 * descriptors_max; ++i)
        all.join(port);
    const std::string told = "UCX has closed the port";
    await(rank, [&] { return count(rank.log(), told) > 0; });
    expect_rest(rank, "async"); // UCX's own
    all.leave();
    await(rank, [&] { return rank.descriptors() < descriptors_max / 2; });
    expect_service(context, generation, 2);
    instance_processes late{over_ucx("late")};
    CHECK(failure(context, late, 3).at("code") == "link_lost");
    CHECK(count(rank.log(), told) == 1);
    for (auto* each : {&late, &generation, &context})
        expect_clean_stop(*each);
}

TEST_CASE("limits: a crowd that says nothing at the port of the tcp wire takes few descriptors, is "
          "let go of, and keeps no peer out") {
    instance_processes context{plain("context", with_few_descriptors())};
    auto& rank = context[0];
    const auto port = wire_port(rank);
    crowd all;
    for (std::size_t i = 0; i < 2 * descriptors_max; ++i)
        all.join(port);
    instance_processes generation{plain("generation")};
    expect_service(context, generation, 1);
    CHECK(rank.descriptors() < descriptors_max - 40);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("limits: with however few descriptors a rank starts, or ends with an error that names "
          "them and what to do") {
    bool ready = false;
    for (int descriptors = 7; descriptors < 150 && !ready; descriptors += 3) {
        CAPTURE(descriptors);
        const auto limit = std::to_string(descriptors);
        rank_process rank{{"--instance", "alone"},
                          {{"prlimit", "--nofile=" + limit + ":" + limit}}};
        const auto first = rank.first_event();
        INFO(first.dump() << rank.log());
        ready = first.at("event") == "ready";
        if (ready) {
            CHECK(descriptors > 95); // as many as kvferry doctor asks for, with the reserve
            CHECK(rank.stop() == 0);
            break;
        }
        const auto text = first.at("error").at("text").get<std::string>();
        CHECK(text.find("descriptors are left: raise the limit (ulimit -n") != std::string::npos);
        CHECK(rank.wait_for_end() == 1);
    }
    CHECK(ready);
}

// -- threads ------------------------------------------------------------------------------------

namespace {

/// Processes that may have so many threads, in all.
class few_threads {
public:
    few_threads() {
        for (const char* root : {"/sys/fs/cgroup/pids", "/sys/fs/cgroup"}) {
            const auto mine = fs::path{root} / ("kvferry-test-" + std::to_string(::getpid()));
            std::error_code problem;
            if (fs::create_directory(mine, problem) && fs::exists(mine / "pids.max"))
                group_ = mine;
            else
                fs::remove(mine, problem);
            if (!group_.empty())
                return;
        }
    }
    ~few_threads() {
        if (!group_.empty())
            fs::remove(group_);
    }
    few_threads(const few_threads&) = delete;
    few_threads& operator=(const few_threads&) = delete;

    /// Without a group, a user of their own; nothing else of that user runs.
    bool work() const { return !group_.empty() || shell(user + " test -x " + rank_program()); }
    launch at_most(int threads) const {
        const auto limit = std::to_string(threads);
        if (group_.empty())
            return {{"sh", "-c",
                     no_ucx_thread + "exec " + user + " prlimit --nproc=" + limit + " \"$@\"",
                     "sh"}};
        std::ofstream{group_ / "pids.max"} << limit;
        return {
            {"sh", "-c",
             no_ucx_thread + "echo $$ > " + (group_ / "cgroup.procs").string() + " && exec \"$@\"",
             "sh"}};
    }

private:
    /// Newer UCX starts one when it is loaded, before anything of ours runs, and complains on
    /// standard output when it cannot.
    inline static const std::string no_ucx_thread = "export UCX_VFS_ENABLE=n; ";
    inline static const std::string user = "setpriv --reuid=64999 --regid=64999 --clear-groups";

    fs::path group_;
};

} // namespace

TEST_CASE("limits: with however few threads a rank starts, or ends with an error that names them "
          "and what to do") {
    const few_threads few;
    if (!few.work()) {
        MESSAGE("threads cannot be limited here: needs root, and cgroups or a program that other "
                "users can read");
        return;
    }
    int refused = 0;
    for (int threads = 1; threads < 100; ++threads, ++refused) {
        CAPTURE(threads);
        rank_process rank{{"--instance", "alone"}, few.at_most(threads)};
        const auto first = rank.first_event();
        if (first.at("event") == "ready") {
            CHECK(rank.stop() == 0);
            break;
        }
        INFO(first.dump() << rank.log());
        const auto text = first.at("error").at("text").get<std::string>();
        CHECK(text.find("no more threads: raise pids.max") != std::string::npos);
        CHECK(rank.wait_for_end() == 1);
    }
    CHECK(refused > 5); // not the first: what is tested has been reached
    CHECK(refused < 50);
}

// -- shared memory ------------------------------------------------------------------------------

TEST_CASE("limits: a rank needs no /dev/shm, and one that is made to use it says what it lacks") {
    const std::vector<std::string> tiny_shm{
        "unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=16k none /dev/shm && exec \"$@\"",
        "sh"};
    if (!shell("unshare --mount mount -t tmpfs none /dev/shm")) {
        MESSAGE("mount namespaces cannot be made here: needs root");
        return;
    }
    auto uses_it = tiny_shm;
    uses_it.insert(uses_it.begin(), {"env", "UCX_TLS=all"});
    rank_process refused{{"--instance", "alone", "--wire", "ucx"}, {uses_it}};
    if (const auto first = refused.first_event(); first.at("event") == "ready") {
        MESSAGE("this UCX does without /dev/shm");
        CHECK(refused.stop() == 0);
    } else {
        const auto why = first.at("error").at("text").get<std::string>();
        CHECK_MESSAGE(why.find("/dev/shm has ") != std::string::npos, why);
        CHECK(why.find("leave UCX_TLS unset") != std::string::npos);
        CHECK(refused.wait_for_end() == 1);
    }
    instance_processes context{plain("context", {tiny_shm})};
    instance_processes generation{plain("generation", {tiny_shm})};
    expect_service(context, generation, 1);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
