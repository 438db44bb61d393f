// SPDX-License-Identifier: Apache-2.0
// Turns blocks into events. Every value of a file is checked before it is used.
#include "tools/trace/recording.hpp"

#include "messages/trace/trace_format.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <unordered_map>

namespace kvferry::tracing {

namespace {

using trace::block;

/// 31 years. Whatever a file says, differences of two such times do not overflow.
constexpr std::uint64_t time_ns_max = 1'000'000'000'000'000'000;

/// Reads forward. After a read past the end every value is 0 and `ok()` is false.
class cursor {
public:
    explicit cursor(std::span<const std::byte> data) : data_(data) {}

    template <class Number>
    Number number() {
        std::uint64_t result = 0;
        const auto bytes = take(sizeof(Number));
        for (std::size_t i = 0; i < bytes.size(); ++i)
            result |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
        return static_cast<Number>(result);
    }
    std::string text() {
        const auto bytes = take(number<std::uint16_t>());
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    std::span<const std::byte> take(std::size_t size) {
        if (size > data_.size()) {
            ok_ = false;
            data_ = {};
            return {};
        }
        const auto result = data_.first(size);
        data_ = data_.subspan(size);
        return result;
    }
    bool ok() const { return ok_; }
    std::size_t left() const { return data_.size(); }

private:
    std::span<const std::byte> data_;
    bool ok_ = true;
};

class reader {
public:
    explicit reader(recording& into) : into_(into) {}

    void read_blocks(cursor& from) {
        while (from.left() > 0 && read_block(from)) {
        }
        set_times();
        if (into_.ended.empty() && into_.problems.empty())
            problem("the end is missing: the process was killed, or still runs");
    }

private:
    bool read_block(cursor& from) {
        const auto place = std::to_string(from.left()) + " bytes before the end";
        const auto kind = static_cast<block>(from.number<std::uint8_t>());
        const auto size = from.number<std::uint32_t>();
        const auto sum = from.number<std::uint64_t>();
        const auto payload = from.take(size);
        if (!from.ok()) {
            problem("truncated in a block that begins " + place);
            return false;
        }
        if (trace::checksum(static_cast<std::uint8_t>(kind), payload.data(), payload.size())
            != sum) {
            problem("damaged: the checksum of the block that begins " + place
                    + " is wrong; it is left out");
            return true;
        }
        cursor inside{payload};
        read_payload(kind, inside);
        if (!inside.ok())
            problem("damaged: the block that begins " + place + " is too short for what it holds");
        return true;
    }

    void read_payload(block kind, cursor& from) {
        switch (kind) {
        case block::process:
            into_.process_id = from.number<std::uint32_t>();
            into_.program = from.text();
            into_.machine = from.text();
            break;
        case block::name: {
            const auto number = from.number<std::uint32_t>();
            into_.names->push_back(from.text());
            names_[number] = into_.names->back();
            break;
        }
        case block::thread: {
            auto& thread = into_.threads[from.number<std::uint32_t>()];
            thread.rank = from.text();
            thread.role = from.text();
            break;
        }
        case block::clock: {
            const auto ticks = from.number<std::uint64_t>();
            const auto nanoseconds = from.number<std::uint64_t>();
            if (nanoseconds > time_ns_max) {
                problem("damaged: a clock shows " + std::to_string(nanoseconds) + " ns");
                break;
            }
            if (!first_clock_)
                first_clock_ = {ticks, nanoseconds};
            last_clock_ = {ticks, nanoseconds};
            break;
        }
        case block::events:
            read_events(from);
            break;
        case block::end:
            into_.ended = from.text();
            break;
        case block::joined:
            into_.joined_late = true;
            break;
        case block::session:
            read_session(from);
            break;
        case block::rank:
            read_rank(from);
            break;
        case block::version:
            into_.version = from.text();
            break;
        case block::calendar:
            into_.clock_began_at_ns = static_cast<std::int64_t>(from.number<std::uint64_t>());
            break;
        }
    }

    void read_rank(cursor& from) {
        trace::rank_record x;
        x.rank = from.text();
        x.info_endpoint = from.text();
        x.world_size = from.number<std::uint32_t>();
        if (from.ok())
            into_.ranks.push_back(std::move(x));
    }

    void read_session(cursor& from) {
        trace::session_record x;
        for (auto* text : {&x.rank, &x.side, &x.state})
            *text = from.text();
        for (auto* number : {&x.rid, &x.attempt, &x.now_ns, &x.deadline_ns})
            *number = from.number<std::uint64_t>();
        const auto count = from.number<std::uint16_t>();
        for (std::uint16_t i = 0; i < count && from.ok(); ++i) {
            auto& wait = x.waits.emplace_back();
            for (auto* text : {&wait.what, &wait.who, &wait.rank})
                *text = from.text();
        }
        if (from.left() >= sizeof x.opened_ns) // older releases do not say it
            x.opened_ns = from.number<std::uint64_t>();
        if (from.ok() && x.now_ns <= time_ns_max && x.deadline_ns <= time_ns_max
            && x.opened_ns <= time_ns_max)
            into_.sessions.push_back(std::move(x));
    }

    void read_events(cursor& from) {
        const auto thread = from.number<std::uint32_t>();
        into_.threads[thread].lost += from.number<std::uint64_t>();
        const auto count = from.number<std::uint32_t>();
        for (std::uint32_t i = 0; i < count && from.left() >= trace::event_bytes; ++i) {
            recorded_event x;
            x.thread = thread;
            x.time_ns = static_cast<std::int64_t>(
                from.number<std::uint64_t>()); // still ticks; converted at the end
            x.actor = name(from.number<std::uint32_t>());
            x.message = name(from.number<std::uint32_t>());
            x.rid = from.number<std::uint64_t>();
            x.attempt = from.number<std::uint64_t>();
            x.key = from.number<std::uint64_t>();
            x.actor_id = from.number<std::uint32_t>();
            x.peer_id = from.number<std::uint32_t>();
            x.number = from.number<std::uint64_t>();
            const auto what = from.number<std::uint8_t>();
            if (what >= trace::instant_count)
                continue; // written by a newer program, which may have more kinds
            x.what = static_cast<trace::instant>(what);
            if (x.what == trace::instant::joined_trace) {
                into_.joined.push_back({x.rid, parent_in(x)});
                continue;
            }
            into_.events.push_back(x);
        }
    }

    static trace_parent parent_in(const recorded_event& x) {
        return {x.key, std::uint64_t{x.actor_id} << 32 | x.peer_id, x.attempt,
                static_cast<std::uint8_t>(x.number)};
    }

    std::string_view name(std::uint32_t number) const {
        const auto found = names_.find(number);
        return found == names_.end() ? std::string_view{"?"} : found->second;
    }

    void set_times() {
        if (!first_clock_) {
            if (!into_.events.empty())
                problem("no clock: its events have no times");
            into_.events.clear();
            return;
        }
        const auto ticks =
            static_cast<double>(static_cast<std::int64_t>(last_clock_.ticks - first_clock_->ticks));
        const auto nanoseconds = static_cast<double>(
            static_cast<std::int64_t>(last_clock_.monotonic_ns - first_clock_->monotonic_ns));
        const auto rate = ticks > 0 && nanoseconds > 0 ? nanoseconds / ticks : 1.0;
        for (auto& x : into_.events) {
            const auto since = static_cast<std::int64_t>(static_cast<std::uint64_t>(x.time_ns)
                                                         - first_clock_->ticks);
            x.time_ns = static_cast<std::int64_t>(
                static_cast<std::uint64_t>(first_clock_->monotonic_ns)
                + static_cast<std::uint64_t>(static_cast<std::int64_t>(
                    std::clamp(static_cast<double>(since) * rate, -static_cast<double>(time_ns_max),
                               static_cast<double>(time_ns_max)))));
        }
    }

    void problem(std::string text) {
        if (into_.problems.size() < 20)
            into_.problems.push_back(into_.path + ": " + std::move(text));
    }

    recording& into_;
    std::unordered_map<std::uint32_t, std::string_view> names_;
    std::optional<trace::clock_pair> first_clock_;
    trace::clock_pair last_clock_;
};

} // namespace

std::uint64_t recording::lost() const {
    std::uint64_t result = 0;
    for (const auto& [number, thread] : threads)
        result += thread.lost;
    return result;
}

caf::expected<recording> read_recording(std::span<const std::byte> data, const std::string& path) {
    recording result;
    result.path = path;
    cursor from{data};
    const auto magic = from.take(trace::recording_magic.size());
    if (std::string_view{reinterpret_cast<const char*>(magic.data()), magic.size()}
        != trace::recording_magic)
        return make_error(errc::malformed_message, "{} is not a kvferry recording", path);
    const auto version = from.number<std::uint32_t>();
    if (!from.ok() || version != trace::recording_version)
        return make_error(errc::unsupported,
                          "{} has version {} of the recording format, this program reads {}: use "
                          "the kvferry that recorded it",
                          path, version, trace::recording_version);
    reader{result}.read_blocks(from);
    return result;
}

caf::expected<run_files> read_run(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code problem;
    std::vector<fs::path> files;
    if (fs::is_directory(path, problem)) {
        for (const auto& entry : fs::directory_iterator{path, problem})
            if (entry.path().extension() == ".kvtrace")
                files.push_back(entry.path());
        std::sort(files.begin(), files.end());
    } else {
        files.push_back(path);
    }
    run_files result;
    for (const auto& file : files) {
        std::ifstream in{file, std::ios::binary};
        if (!in) {
            result.problems.push_back(file.string() + " cannot be read");
            continue;
        }
        const std::string content{std::istreambuf_iterator<char>{in}, {}};
        auto read = read_recording(std::as_bytes(std::span{content}), file.string());
        if (!read) {
            result.problems.push_back(kvferry::text_of(read.error()));
            continue;
        }
        result.problems.insert(result.problems.end(), read->problems.begin(), read->problems.end());
        result.recordings.push_back(std::move(*read));
    }
    if (!result.recordings.empty())
        return result;
    if (!result.problems.empty())
        return make_error(errc::invalid_argument, result.problems.front());
    return make_error(errc::invalid_argument,
                      "{} has no recording: a run is recorded with --trace {}", path, path);
}

} // namespace kvferry::tracing
