// SPDX-License-Identifier: Apache-2.0
// Writes well-formed inputs, one folder per fuzzer; the fuzzers mutate them.
#include "messages/trace/trace_format.hpp"
#include "messages/wire/codec.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/messages/wire/random_message.hpp"
#include "transport/fabric/put_bundle.hpp"
#include "transport/host_link/host_link_hello.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/planner/page_table/tensor_pages.hpp"
#include "transport/secure/security.hpp"
#include "transport/shm/byte_ring.hpp"
#include "transport/shm/shm_address.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_outbox.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

using namespace kvferry;

namespace {

class seed_folder {
public:
    explicit seed_folder(const std::filesystem::path& path) : path_(path) {
        std::filesystem::create_directories(path);
    }

    void add(const void* data, std::size_t bytes) {
        std::ofstream file{path_ / ("seed_" + std::to_string(count_++)), std::ios::binary};
        file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    }
    template <class Bytes>
    void add(const Bytes& bytes) {
        add(bytes.data(), bytes.size());
    }

private:
    std::filesystem::path path_;
    int count_ = 0;
};

void frames(seed_folder folder) {
    std::mt19937_64 source{1};
    for (std::size_t index = 0; index < testing::message_types; ++index)
        folder.add(*encode(testing::random_message(index, source), std::size_t{1} << 20));
}

/// K and V packed beside each other, with all tokens or with those that CP ranks are dealt.
void packed_layouts(seed_folder& folder) {
    for (const std::uint32_t tp : {1u, 2u, 4u})
        for (const std::uint32_t cp : {1u, 2u}) {
            const kv_tensor tensor{.address = 4096,
                                   .dims = "block layer head token kv dim",
                                   .shape = {8, 4, 4 / tp, 4, 2, 8},
                                   .layers = {0, 1, 2, 3},
                                   .heads = 4,
                                   .tokens_are_dealt = cp != 1};
            register_rank_info message;
            auto& info = message.info;
            info.instance = "peer";
            info.world_size = tp * cp;
            info.layout.tp_size = tp;
            info.layout.cp_size = cp;
            info.layout.layers_per_stage = {4};
            info.pages = *build_page_table({tensor}, info.layout, *extents_of({tensor}));
            folder.add(*encode(message, std::size_t{1} << 16));
        }
}

/// Introductions of ranks with all kinds of layouts that the builder knows, 4 layers each.
void layouts(seed_folder folder) {
    for (const std::uint32_t tp : {1u, 2u, 4u})
        for (const std::uint32_t pp : {1u, 2u})
            for (const auto kind : {attention_kind::gqa, attention_kind::mla})
                for (const auto order : {mapper_kind::hnd, mapper_kind::nhd}) {
                    cache_format format;
                    format.layers = 4;
                    format.kv_heads = 4;
                    format.head_dim = 8;
                    format.tokens_per_block = 4;
                    format.kind = kind;
                    format.layout = order;
                    register_rank_info message;
                    auto& info = message.info;
                    info.instance = "peer";
                    info.world_size = tp * pp;
                    info.layout.tp_size = tp;
                    info.layout.pp_size = pp;
                    info.layout.layers_per_stage.assign(pp, 4 / pp);
                    info.pages = *build_page_table(format, info.layout, {8, 0, 0});
                    folder.add(*encode(message, std::size_t{1} << 16));
                }
    packed_layouts(folder);
}

void hellos(seed_folder folder) {
    for (const std::size_t count : {0, 1, 3, 60}) {
        std::vector<hello_region> regions;
        for (std::uint32_t index = 0; index < count; ++index)
            regions.push_back({index, 4096});
        std::vector<std::uint8_t> input;
        auto packets = split_hello({1}, {2}, {3}, regions);
        for (const auto& packet : packets) {
            const auto bytes = encode(host_link_packet{packet});
            input.push_back(static_cast<std::uint8_t>(packet.regions.size()));
            input.push_back(static_cast<std::uint8_t>(bytes.size() >> 8));
            input.push_back(static_cast<std::uint8_t>(bytes.size()));
            for (auto byte : bytes)
                input.push_back(caf::to_integer<std::uint8_t>(byte));
        }
        folder.add(input);
    }
}

/// An address, a hello, and a ring with whole and divided messages.
void rings(seed_folder folder) {
    const auto add = [&folder](std::uint8_t kind, byte_buffer bytes) {
        bytes.insert(bytes.begin(), static_cast<caf::byte>(kind));
        folder.add(bytes);
    };
    add(0, pack(shm_address{"boot", "kvferry-shm-1", 7}));
    add(1, pack(shm_hello{7, ring_bytes}));
    ring_writer writer{std::move(*ring_memory::make())};
    const byte_buffer head(48, caf::byte{1}), bytes(100, caf::byte{2});
    writer.write(fabric_message::frame, {}, bytes, false);
    writer.write(fabric_message::write, head, bytes, false);
    writer.write(fabric_message::write_end, byte_view{head}.subspan(0, 40), bytes, true);
    writer.write(fabric_message::write_end, {}, bytes, false);
    byte_buffer input(8);
    for (int shift = 0; shift < 8; ++shift)
        input[shift] = static_cast<caf::byte>(writer.written() >> (56 - 8 * shift));
    const auto* from = reinterpret_cast<const caf::byte*>(writer.memory().at(0));
    input.insert(input.end(), from, from + writer.written());
    add(2, std::move(input));
}

void endpoints(seed_folder folder) {
    for (const std::string text : {"127.0.0.1:4711", "[::1]:80", "host-7.example.org:65535", "a:0"})
        folder.add(text);
}

void writes(seed_folder folder) {
    // A piece into the first region, the end of its put, a fence.
    folder.add(std::vector<std::uint8_t>{0x40, 1, 1, 1, 0, 0, 4, 9, 9, 9,    9, 0x45,
                                         1,    0, 0, 0, 0, 0, 0, 0, 1, 0x46, 0});
    // A bundle of two stretches, read into place, and one more that is placed.
    std::vector<std::uint8_t> bundles;
    for (const std::uint8_t put : {1, 2}) {
        post_bundle bundle{.over = {}, .put = put, .attempt = {}};
        bundle.stretches = {{0, 1100, 4, 0, 1}, {0, 2200, 4, 0, 2}};
        const auto head = pack_bundle({1}, bundle, [](std::uint32_t region) {
            return access_key_head{region, 0};
        });
        bundles.insert(bundles.end(), {0x5f, put, static_cast<std::uint8_t>(head.size()), 0});
        for (auto byte : head)
            bundles.push_back(static_cast<std::uint8_t>(byte));
        bundles.insert(bundles.end(), {8, 0, 1, 1, 1, 1, 1, 1, 1, 1});
    }
    folder.add(bundles);
}

/// A frame, two puts and a flush, as they lie in a stream; a put of many small pieces, which
/// another thread reads.
void tcp_streams(seed_folder folder) {
    std::vector<std::uint64_t> tags;
    tcp_outbox out;
    const byte_buffer bytes(64, caf::byte{3});
    const byte_view part = bytes;
    const std::vector<byte_view> parts{part.subspan(0, 20), part.subspan(20)};
    post_bundle bundle{.over = {}, .put = 2, .attempt = {}};
    bundle.stretches = {{0, 5000, 20, 0, 1}, {0, 6000, 44, 0, 1}};
    const auto key = [](std::uint32_t region) { return access_key_head{region, 7}; };
    const write_head write{.sender = 1, .put = 1, .region = 1, .secret = 7, .address = 4200};
    out.add(static_cast<std::uint8_t>(fabric_message::frame), {}, bytes);
    out.add_from(static_cast<std::uint8_t>(fabric_message::write), bytes_of(write),
                 std::span{&part, 1}, 0);
    out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), pack_bundle({1}, bundle, key),
                 parts, 0);
    out.add(tcp_record::flush, byte_buffer(8));
    struct collected final : byte_stream {
        std::vector<std::uint8_t> all{200, 255}; // long pieces, and the region stays
        int fd() const override { return -1; }
        bytes_moved read(std::span<const iovec>) override { return {}; }
        bytes_moved write(std::span<const iovec> from) override {
            bytes_moved result;
            for (const auto& x : from) {
                const auto* at = static_cast<const std::uint8_t*>(x.iov_base);
                all.insert(all.end(), at, at + x.iov_len);
                result.bytes += x.iov_len;
            }
            return result;
        }
    } stream;
    (void)out.write(stream, 1 << 20, tags);
    folder.add(stream.all);
    post_bundle many{.over = {}, .put = 3, .attempt = {}};
    for (std::uint64_t at = 0; at < bundle_stretches_max; ++at)
        many.stretches.push_back({0, 4096 + 7 * at, 50, 0, 1});
    out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), pack_bundle({1}, many, key),
                 std::vector<byte_view>(many.stretches.size(), part.subspan(0, 50)), 0);
    stream.all = {201, 255};
    (void)out.write(stream, 1 << 20, tags);
    folder.add(stream.all);
    folder.add(pack_hello({{1}, {2}, {}, tcp_lane::bulk}));
    folder.add(pack_address({.secret = {}, .port = 4711, .hosts = {"192.0.2.1", "2001:db8::1"}}));
}

/// The first words of both kinds of dialler, to both kinds of acceptor.
void streams(seed_folder folder) {
    const auto add = [&folder](std::uint8_t kind, const auto& words) {
        std::vector<std::uint8_t> input{kind, static_cast<std::uint8_t>(words.size() >> 8),
                                        static_cast<std::uint8_t>(words.size())};
        for (auto each : words)
            input.push_back(static_cast<std::uint8_t>(each));
        folder.add(input);
    };
    std::vector<caf::byte> hello(60);
    if (auto secured = security::make({.secret = "0123456789abcdef0123456789abcdef"})) {
        stream_buffers ends;
        const auto dialler = (*secured)->open(stream_role::dialler, stream_carrier{ends});
        std::ignore = dialler->handshake();
        hello.assign(ends.leaving.begin(), ends.leaving.end());
    }
    for (std::uint8_t kind = 0; kind < 4; ++kind) {
        add(kind, hello);
        add(kind, std::vector<caf::byte>(60));
    }
}

/// A request that is sent and handled, and never answered: as a file, and as bare payloads.
void recordings(seed_folder folder) {
    trace::recording_encoder encoder;
    auto file = encoder.begin({1000, 500}, 42, "context", "here");
    trace::thread_events thread{3, "context/0", "loop", 1, {}};
    for (const auto what : {trace::instant::sent, trace::instant::dequeued, trace::instant::done}) {
        trace::event x;
        x.ticks = 1000 + 100 * thread.events.size();
        x.actor = what == trace::instant::sent ? "receiver" : "sender";
        x.message = "request_data";
        x.rid = 7;
        x.attempt = 1;
        x.key = 5;
        x.actor_id = what == trace::instant::sent ? 1 : 2;
        x.peer_id = what == trace::instant::sent ? 2 : 1;
        x.what = what;
        thread.events.push_back(x);
    }
    for (const auto& part : {encoder.add({2000, 1000}, {thread}), encoder.end("complete")})
        file.insert(file.end(), part.begin(), part.end());
    folder.add(file);

    std::vector<std::byte> payloads;
    auto at = trace::recording_magic.size() + sizeof trace::recording_version;
    while (at < file.size()) {
        const auto size = std::to_integer<std::size_t>(file[at + 1]); // all lengths fit one byte
        payloads.push_back(file[at]);
        payloads.push_back(file[at + 1]);
        at += trace::block_head_bytes;
        payloads.insert(payloads.end(), file.begin() + static_cast<std::ptrdiff_t>(at),
                        file.begin() + static_cast<std::ptrdiff_t>(at + size));
        at += size;
    }
    folder.add(payloads);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: make_seeds <folder>\n";
        return 2;
    }
    const std::filesystem::path root{argv[1]};
    frames(seed_folder{root / "frame"});
    layouts(seed_folder{root / "layout"});
    hellos(seed_folder{root / "hello"});
    endpoints(seed_folder{root / "endpoint"});
    recordings(seed_folder{root / "recording"});
    rings(seed_folder{root / "ring"});
    tcp_streams(seed_folder{root / "tcp"});
    writes(seed_folder{root / "write"});
    streams(seed_folder{root / "stream"});
    return 0;
}
