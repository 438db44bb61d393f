// SPDX-License-Identifier: Apache-2.0
// All simulated threads share one ring, which is emptied whenever another thread runs.
#include "tests/harness/sim_trace.hpp"

#include "tests/harness/sim_schedule.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>

namespace kvferry::harness {

namespace {

const sim_schedule* timekeeper = nullptr;
std::uint64_t last_tick = 0;

/// Virtual time stands still while an actor runs, so this gives every event a tick of its own.
std::uint64_t virtual_nanoseconds() {
    const auto now = std::chrono::nanoseconds{timekeeper->now().time_since_epoch()}.count();
    last_tick = std::max(last_tick + 1, static_cast<std::uint64_t>(now));
    return last_tick;
}

} // namespace

caf::expected<std::unique_ptr<sim_trace>>
sim_trace::start(const std::string& folder, const std::string& name, const sim_schedule& schedule) {
    std::error_code ignored; // a failure shows when the file is opened
    std::filesystem::create_directories(folder, ignored);
    const auto path = folder + "/" + name + ".kvtrace";
    std::ofstream file{path, std::ios::binary};
    if (!file)
        return make_error(errc::system_call_failed,
                          "open " + path + ": name a folder that can be written");
    return std::unique_ptr<sim_trace>{new sim_trace{std::move(file), schedule}};
}

sim_trace::sim_trace(std::ofstream file, const sim_schedule& schedule) : file_(std::move(file)) {
    events_.collect(); // drops the events of a former simulation
    timekeeper = &schedule;
    last_tick = 0;
    trace::use_clock(&virtual_nanoseconds);
    const auto began = trace::clock_now();
    write(encoder_.begin(began, 1, "kvferry-sim", "simulated"));
}

sim_trace::~sim_trace() {
    collect(0, "");
    write(encoder_.end("complete"));
    trace::use_clock(nullptr);
    timekeeper = nullptr;
}

void sim_trace::collect(std::uint64_t home, std::string_view home_name) {
    auto threads = events_.collect();
    if (threads.empty())
        return;
    const auto space = home_name.find(' ');
    for (auto& each : threads) {
        each.thread = static_cast<std::uint32_t>(home);
        each.rank = home_name.substr(0, space);
        each.role = space == home_name.npos ? "loop" : home_name.substr(space + 1);
    }
    write(encoder_.add(trace::clock_now(), threads));
}

void sim_trace::write(const std::vector<std::byte>& bytes) {
    file_.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
}

} // namespace kvferry::harness
