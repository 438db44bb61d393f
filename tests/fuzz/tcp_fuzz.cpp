// SPDX-License-Identifier: Apache-2.0
// What comes to a rank's port over TCP, in pieces as the input says: a hello, an address, and
// streams of records whose puts are read into place. Nothing may be written outside of the region,
// or after it was taken back, and no more is kept than has come.
#include "tests/fuzz/fuzz.hpp"
#include "transport/fabric/inbound_writes.hpp"
#include "transport/tcp/small_parts.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>

using namespace kvferry;

namespace {

constexpr std::size_t region_bytes = 4096;
constexpr std::uint64_t payload_bytes_max = 1 << 20;
constexpr std::byte untouched{0xa5};

/// A stream of the input's bytes.
class input_stream final : public byte_stream {
public:
    explicit input_stream(fuzz::reader& input) : input_(input) {}

    std::size_t most = 1;

    int fd() const override { return -1; }
    bytes_moved write(std::span<const iovec>) override { return {.blocked = true}; }
    bytes_moved read(std::span<const iovec> to) override {
        if (input_.empty())
            return {.ended = true};
        bytes_moved result;
        auto left = most;
        for (const auto& part : to) {
            const auto bytes = input_.bytes(std::min(left, part.iov_len));
            std::memcpy(part.iov_base, bytes.data(), bytes.size());
            result.bytes += bytes.size();
            left -= bytes.size();
            if (left == 0 || bytes.size() < part.iov_len)
                break;
        }
        return result;
    }

private:
    fuzz::reader& input_;
};

/// A fabric's half of it, with one region between two guards.
struct target final : wire_user {
    std::array<std::byte, 3 * region_bytes> memory;
    inbound_writes writes{16, 64};
    std::size_t questions = 0;
    std::size_t shut_after = ~std::size_t{0};

    target() {
        memory.fill(untouched);
        writes.allow({1}, memory.data() + region_bytes, region_bytes, 7);
    }

    /// Inputs cannot know addresses: theirs are meant near the region.
    std::uint64_t near(std::uint64_t address) const {
        return reinterpret_cast<std::uint64_t>(memory.data()) + address % memory.size();
    }

    void arrived(fabric_message, byte_view, byte_view payload) override {
        fuzz::require(payload.size() <= payload_bytes_max, "what is collected is bounded");
    }
    bool on_progress() override { return false; }
    void after(std::chrono::nanoseconds, std::function<void()>) override {}
    landing land(fabric_message what, byte_view head, std::uint64_t bytes) override {
        if (what == fabric_message::write)
            if (auto piece = read_head<write_head>(head)) {
                piece->address = near(piece->address);
                return writes.land(*piece, bytes);
            }
        if (what == fabric_message::bundle)
            if (auto bundle = parse_bundle(head, bytes)) {
                for (auto& x : bundle->stretches)
                    x.address = near(x.address);
                return writes.land(*bundle);
            }
        return {};
    }
    bool may_land(fabric_message, byte_view, landing& x) override {
        if (++questions == shut_after) {
            writes.forbid_all();
            const auto* from = memory.data() + region_bytes;
            std::copy_n(from, region_bytes, kept.begin());
        }
        if (writes.is_current(x))
            return true;
        x.how = landing::kind::refused;
        x.places.clear();
        return false;
    }
    void landed(landing&& x) override { writes.landed(std::move(x)); }

    std::array<std::byte, region_bytes> kept{};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    const byte_view all{reinterpret_cast<const caf::byte*>(data), bytes};
    (void)parse_hello(all.subspan(0, std::min(bytes, tcp_hello_bytes)));
    (void)parse_address(all);
    fuzz::reader input{data, bytes};
    target user;
    input_stream stream{input};
    stream.most = 1 + input.number<std::uint8_t>() * std::size_t{17};
    if (const auto shut = input.number<std::uint8_t>(); shut < 64)
        user.shut_after = shut + 1u;
    tcp_reader reader{&user, payload_bytes_max, [](tcp_record, byte_view payload) {
                          fuzz::require(payload.size() <= refusal_bytes_max,
                                        "records of the wire itself are short");
                          return caf::error{};
                      }};
    const auto apart = stream.most % 2 == 0; // as another thread reads, where that is long
    for (;;) {
        auto progress = reader.read(stream, 4096, apart);
        if (progress.is_long_next)
            if (const auto parts = reader.begin_apart(); !parts.empty())
                progress = reader.end_apart(read_parts(stream, parts));
        fuzz::require(reader.held() <= 2 * bytes + (std::size_t{1} << 20),
                      "no more is kept than has come, and the next read");
        if (progress.ended || progress.problem)
            break;
    }
    for (std::size_t guard : {0, 2}) {
        const auto* from = user.memory.data() + guard * region_bytes;
        fuzz::require(
            std::all_of(from, from + region_bytes, [](std::byte x) { return x == untouched; }),
            "nothing is written outside of the region");
    }
    if (user.questions >= user.shut_after)
        fuzz::require(
            std::equal(user.kept.begin(), user.kept.end(), user.memory.begin() + region_bytes),
            "nothing is written after the region was taken back");
    return 0;
}
