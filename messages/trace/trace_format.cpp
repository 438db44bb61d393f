// SPDX-License-Identifier: Apache-2.0
// Blocks, each with its length and checksum; integers are little endian.
#include "messages/trace/trace_format.hpp"

#include "messages/version.hpp"

#include <algorithm>

namespace kvferry::trace {

namespace {

using bytes = std::vector<std::byte>;

template <class Number>
void put(bytes& to, Number x) {
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        to.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(x) >> (8 * i)));
}

void put_text(bytes& to, std::string_view text) {
    const auto length = std::min<std::size_t>(text.size(), 0xffff);
    put(to, static_cast<std::uint16_t>(length));
    const auto* data = reinterpret_cast<const std::byte*>(text.data());
    to.insert(to.end(), data, data + length);
}

void put_block(bytes& to, block kind, const bytes& payload) {
    put(to, static_cast<std::uint8_t>(kind));
    put(to, static_cast<std::uint32_t>(payload.size()));
    put(to, checksum(static_cast<std::uint8_t>(kind), payload.data(), payload.size()));
    to.insert(to.end(), payload.begin(), payload.end());
}

void put_clock(bytes& to, clock_pair x) {
    bytes payload;
    put(payload, x.ticks);
    put(payload, x.monotonic_ns);
    put_block(to, block::clock, payload);
}

} // namespace

std::uint64_t checksum(std::uint8_t kind, const std::byte* data, std::size_t size) noexcept {
    std::uint64_t result = (0xcbf29ce484222325ull ^ kind) * 0x100000001b3ull;
    for (std::size_t i = 0; i < size; ++i)
        result = (result ^ static_cast<std::uint64_t>(data[i])) * 0x100000001b3ull;
    return result;
}

bytes recording_encoder::begin(clock_pair first, std::uint32_t process_id, std::string_view program,
                               std::string_view machine) {
    bytes result;
    for (char x : recording_magic)
        result.push_back(static_cast<std::byte>(x));
    put(result, recording_version);
    bytes payload;
    put(payload, process_id);
    put_text(payload, program);
    put_text(payload, machine);
    put_block(result, block::process, payload);
    payload.clear();
    put_text(payload, version());
    put_block(result, block::version, payload);
    payload.clear();
    put(payload, monotonic_began_at());
    put_block(result, block::calendar, payload);
    put_clock(result, first);
    return result;
}

std::uint32_t recording_encoder::number_of(const char* name, bytes& into) {
    const auto [place, fresh] = names_.try_emplace(name, static_cast<std::uint32_t>(names_.size()));
    if (fresh) {
        bytes payload;
        put(payload, place->second);
        put_text(payload, name);
        put_block(into, block::name, payload);
    }
    return place->second;
}

bytes recording_encoder::add(clock_pair clock, const std::vector<thread_events>& threads) {
    bytes result;
    put_clock(result, clock);
    bytes payload;
    for (const auto& thread : threads) {
        auto& known = threads_[thread.thread];
        if (const auto said = thread.rank + '\n' + thread.role; known != said) {
            known = said;
            payload.clear();
            put(payload, thread.thread);
            put_text(payload, thread.rank);
            put_text(payload, thread.role);
            put_block(result, block::thread, payload);
        }
        payload.clear();
        payload.reserve(16 + thread.events.size() * event_bytes);
        put(payload, thread.thread);
        put(payload, thread.lost);
        put(payload, static_cast<std::uint32_t>(thread.events.size()));
        for (const auto& x : thread.events) {
            put(payload, x.ticks);
            put(payload, number_of(x.actor, result));
            put(payload, number_of(x.message, result));
            put(payload, x.rid);
            put(payload, x.attempt);
            put(payload, x.key);
            put(payload, x.actor_id);
            put(payload, x.peer_id);
            put(payload, static_cast<std::uint64_t>(x.number));
            put(payload, static_cast<std::uint8_t>(x.what));
        }
        put_block(result, block::events, payload);
    }
    return result;
}

bytes recording_encoder::joined() {
    bytes result;
    put_block(result, block::joined, {});
    return result;
}

bytes recording_encoder::rank(const rank_record& x) {
    bytes payload;
    put_text(payload, x.rank);
    put_text(payload, x.info_endpoint);
    put(payload, x.world_size);
    bytes result;
    put_block(result, block::rank, payload);
    return result;
}

bytes recording_encoder::session(const session_record& x) {
    bytes payload;
    for (const auto* text : {&x.rank, &x.side, &x.state})
        put_text(payload, *text);
    for (auto number : {x.rid, x.attempt, x.now_ns, x.deadline_ns})
        put(payload, number);
    const auto count = std::min<std::size_t>(x.waits.size(), 0xffff);
    put(payload, static_cast<std::uint16_t>(count));
    for (std::size_t i = 0; i < count; ++i)
        for (const auto* text : {&x.waits[i].what, &x.waits[i].who, &x.waits[i].rank})
            put_text(payload, *text);
    put(payload, x.opened_ns);
    bytes result;
    put_block(result, block::session, payload);
    return result;
}

bytes recording_encoder::end(std::string_view why) {
    bytes result;
    bytes payload;
    put_text(payload, why);
    put_block(result, block::end, payload);
    return result;
}

} // namespace kvferry::trace
