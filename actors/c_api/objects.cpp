// SPDX-License-Identifier: Apache-2.0
// The tables, and what all calls share: texts of errors, times, versions.
#include "actors/c_api/objects.hpp"

#include "actors/c_api/sized.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/request_id.hpp"
#include "messages/version.hpp"

#include <cstring>

namespace kvferry::c_api {

std::string& last_error() noexcept {
    static thread_local std::string text;
    return text;
}

int fail(errc code, std::string text) noexcept {
    last_error().swap(text);
    return static_cast<int>(code);
}

handle_table<kvf_memory, c_memory>& memories() {
    static auto& result = *new handle_table<kvf_memory, c_memory>{"memory"};
    return result;
}

handle_table<kvf_pages, c_pages>& all_pages() {
    static auto& result = *new handle_table<kvf_pages, c_pages>{"page table"};
    return result;
}

handle_table<kvf_worker, c_worker>& workers() {
    static auto& result = *new handle_table<kvf_worker, c_worker>{"worker"};
    return result;
}

handle_table<kvf_session, c_session>& sessions() {
    static auto& result = *new handle_table<kvf_session, c_session>{"session"};
    return result;
}

namespace {

/// Some 290 years fit into nanoseconds; a year is enough for a wait and leaves room for sums.
constexpr std::int64_t milliseconds_max = std::int64_t{366} * 24 * 60 * 60 * 1000;

std::chrono::milliseconds checked(std::int64_t milliseconds, const char* name) {
    if (milliseconds < 0 || milliseconds > milliseconds_max)
        refuse(errc::invalid_argument, "{} is {}, it must be from 0 to {}", name, milliseconds,
               milliseconds_max);
    return std::chrono::milliseconds{milliseconds};
}

} // namespace

std::optional<std::chrono::milliseconds> patience_of(std::int64_t milliseconds, const char* name) {
    if (milliseconds == -1)
        return {};
    return checked(milliseconds, name);
}

std::optional<std::chrono::milliseconds> deadline_of(std::int64_t milliseconds, const char* name) {
    if (milliseconds == 0)
        return {};
    return checked(milliseconds, name);
}

void write_text(const std::string& text, char* to, std::size_t* bytes) {
    auto& room = target(bytes, "bytes");
    const auto has = std::exchange(room, text.size() + 1);
    if (has < room)
        refuse(errc::limit_exceeded, "the text has {} bytes, there is room for {}", room, has);
    std::memcpy(&target(to, "text"), text.c_str(), room);
}

} // namespace kvferry::c_api

using namespace kvferry;
using namespace kvferry::c_api;

extern "C" {

uint64_t kvf_rid_of(const char* name, size_t bytes) {
    return kvferry::rid_of(name ? std::string_view{name, bytes} : std::string_view{}).value;
}

uint32_t kvf_abi_version(void) {
    return KVF_ABI_VERSION;
}

const char* kvf_version(void) {
    return kvferry::version().data(); // a literal
}

const char* kvf_last_error(void) {
    return last_error().c_str();
}

const char* kvf_error_name(int code) {
    static const auto& names = *[] {
        auto* result = new std::vector<std::string>;
        for (int each = 0; each <= static_cast<int>(errc_last); ++each)
            result->push_back(to_string(static_cast<errc>(each)));
        return result;
    }();
    return code >= 0 && static_cast<std::size_t>(code) < names.size()
               ? names[static_cast<std::size_t>(code)].c_str()
               : "unknown";
}

int kvf_log_level(const char* level) {
    return guarded([&] { refuse_if(set_log_level(&target(level, "level"))); });
}

} // extern "C"
