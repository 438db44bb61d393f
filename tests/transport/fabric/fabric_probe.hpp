// SPDX-License-Identifier: Apache-2.0
// A test's own end of a fabric. It asks questions, owns endpoints, collects frames and completions,
// and builds memory and puts. Every wait has a limit.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"
#include "tests/support/caf_setup.hpp"

#include <caf/actor_cast.hpp>
#include <caf/after.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace kvferry::testing {

inline constexpr std::chrono::seconds fabric_patience{30};

/// Owner of endpoints and receiver of completions, on the test's own thread.
class fabric_probe {
public:
    explicit fabric_probe(caf::actor_system& system) : self_(system) {}

    frame_sink_actor sink() { return as<frame_sink_actor>(); }
    completion_actor completions() { return as<completion_actor>(); }

    /// The answer to a question, or its error.
    template <class T, class Message>
    caf::expected<T> ask(const fabric_actor& to, Message message) {
        caf::expected<T> result{make_error(errc::deadline_exceeded, "no answer")};
        self_->request(to, fabric_patience, std::move(message))
            .receive([&](T& value) { result = std::move(value); },
                     [&](caf::error& error) { result = std::move(error); });
        return result;
    }

    template <class Message>
    caf::error ask(const fabric_actor& to, Message message) {
        caf::error result;
        self_->request(to, fabric_patience, std::move(message))
            .receive([] {}, [&](caf::error& error) { result = std::move(error); });
        return result;
    }

    template <class Message>
    void tell(const fabric_actor& to, Message message) {
        self_->send(to, std::move(message));
    }

    /// The next message of a type.
    template <class Message>
    Message next() {
        Message result{};
        self_->receive([&](Message& message) { result = std::move(message); },
                       caf::after(fabric_patience) >> [] { FAIL("nothing came"); });
        return result;
    }

    /// Takes the next `count` completions, which all must have lost their link. Returns how many
    /// are in doubt. The others must have failed before their first byte was posted.
    int doubts(int count) {
        int result = 0;
        for (int i = 0; i < count; ++i) {
            auto done = next<transfer_done>();
            const bool in_doubt = done.result == agent_result::in_doubt;
            CHECK((in_doubt || (done.result == agent_result::failed && done.bytes == 0)));
            CHECK(code_of(done.error) == (in_doubt ? errc::transfer_in_doubt : errc::link_lost));
            result += in_doubt;
        }
        return result;
    }

    /// Counts the messages of a type that have already arrived.
    template <class Message>
    int waiting() {
        int count = 0;
        bool more = true;
        while (more)
            self_->receive([&](Message&) { ++count; },
                           caf::after(std::chrono::seconds{0}) >> [&] { more = false; });
        return count;
    }

    /// Returns after everything that the fabric has sent before has arrived.
    void settle(const fabric_actor& fabric) {
        (void)ask<fabric_description>(fabric, describe_fabric{});
    }

private:
    template <class Handle>
    Handle as() {
        return caf::actor_cast<Handle>(caf::actor_cast<caf::strong_actor_ptr>(self_));
    }

    caf::scoped_actor self_;
};

/// Plain memory as a host would have it, with a pattern.
class fabric_memory {
public:
    explicit fabric_memory(std::size_t bytes, int fill = 0)
        : bytes_(bytes), base_(static_cast<std::byte*>(std::malloc(bytes))) {
        std::memset(base_.get(), fill, bytes);
    }

    std::byte* data() { return base_.get(); }
    std::size_t size() const { return bytes_; }
    std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(base_.get()); }
    std::byte& operator[](std::size_t index) { return base_.get()[index]; }

    /// Differs in every byte position that the tests compare.
    void number(std::uint32_t seed) {
        for (std::size_t index = 0; index < bytes_; ++index) {
            seed = seed * 1664525u + 1013904223u;
            (*this)[index] = std::byte(seed >> 24);
        }
    }

private:
    struct release {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::size_t bytes_;
    std::unique_ptr<std::byte[], release> base_;
};

/// A frame with a valid prefix and `bytes` more bytes; the fabric reads only the prefix.
inline byte_buffer make_frame(incarnation sender, std::size_t bytes, std::uint8_t number = 0) {
    link_health message;
    message.header.sender = sender;
    auto frame = encode(message, limits{}.message_bytes_max);
    REQUIRE(frame);
    auto size = frame->size();
    frame->resize(size + bytes);
    for (auto index = size; index < frame->size(); ++index)
        (*frame)[index] = static_cast<caf::byte>(index * 31 + number);
    return std::move(*frame);
}

/// `slots` slots with `runs` stretches of `bytes` each. They are packed at the source, and have
/// gaps of the same size at the target.
struct scattered_put {
    std::uint32_t slots = 4;
    std::uint32_t runs = 8;
    std::uint64_t bytes = 4096;

    std::uint64_t source_bytes() const { return slots * runs * bytes; }
    std::uint64_t target_bytes() const { return 2 * source_bytes(); }

    copy_job job(std::uint64_t source, std::uint64_t target, std::uint32_t region = 0) const {
        auto layout = std::make_shared<copy_template>();
        layout->runs.push_back({0, bytes, bytes, runs, bytes, 2 * bytes});
        layout->bytes = runs * bytes;
        layout->fragments = runs;
        auto plan = std::make_shared<copy_plan>();
        plan_part part{0, 0, layout, {}};
        for (std::uint32_t slot = 0; slot < slots; ++slot)
            part.slots.push_back({slot, slots - 1 - slot}); // in reverse order at the target
        plan->parts.push_back(std::move(part));
        plan->bytes = source_bytes();
        plan->fragments = std::uint64_t{slots} * runs;
        return {plan, {{source, runs * bytes, 0}}, {{target, 2 * runs * bytes, region}}, {}};
    }

    /// Writes what the target must hold afterwards, without the fabric's code.
    void expect(fabric_memory& source, std::vector<std::byte>& target) const {
        for (std::uint32_t slot = 0; slot < slots; ++slot)
            for (std::uint32_t run = 0; run < runs; ++run)
                std::memcpy(target.data() + (slots - 1 - slot) * 2 * runs * bytes
                                + (2 * run + 1) * bytes,
                            source.data() + (slot * runs + run) * bytes, bytes);
    }
};

} // namespace kvferry::testing
