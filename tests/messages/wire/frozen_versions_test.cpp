// SPDX-License-Identifier: Apache-2.0
// What each released version has put on the wire is read for ever, or refused by name.
//
// vectors/protocol-N.txt is made once, by the release that introduces N:
//   ninja -C build kvferry_write_vectors
//   build/bin/kvferry_write_vectors > tests/messages/wire/vectors/protocol-N.txt
// and never again: a test that fails here says that a fleet can no longer be upgraded rank by rank.
// When a struct has grown since, what is written now is added behind (>>); what was stays.
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"
#include "messages/wire/wire_layout.hpp"
#include "tests/messages/wire/field_list.hpp"
#include "tests/messages/wire/random_message.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::size_t bytes_max = limits{}.message_bytes_max;

struct vector {
    std::string name;
    byte_buffer bytes;
    field_list::lines fields;
};

std::filesystem::path file_of(unsigned version) {
    return std::filesystem::path{KVFERRY_VECTORS}
           / ("protocol-" + std::to_string(version) + ".txt");
}

std::vector<vector> read_vectors(unsigned version) {
    std::ifstream file{file_of(version)};
    REQUIRE_MESSAGE(file, file_of(version).string());
    std::vector<vector> result;
    for (std::string line; std::getline(file, line);) {
        const auto space = line.find(' ');
        if (line.empty() || line[0] == '#' || space == std::string::npos)
            continue;
        const auto first = line.substr(0, space);
        const auto rest = line.substr(space + 1);
        if (first == "vector")
            result.push_back({rest, {}, {}});
        else if (first == "bytes")
            for (std::size_t at = 0; at + 1 < rest.size(); at += 2)
                result.back().bytes.push_back(
                    static_cast<caf::byte>(std::stoul(rest.substr(at, 2), nullptr, 16)));
        else
            result.back().fields[first] = rest;
    }
    return result;
}

template <class T>
field_list::lines defaults_of(const T&) {
    return field_list::of(T{});
}

/// Every field that was written has its value; one that came later has its default.
void check_fields(const vector& frozen, const field_list::lines& now,
                  const field_list::lines& defaults) {
    for (const auto& [path, value] : frozen.fields) {
        CAPTURE(path);
        const auto found = now.find(path);
        REQUIRE(found != now.end());
        CHECK(found->second == value);
    }
    for (const auto& [path, value] : now) {
        if (frozen.fields.contains(path) || path.find('[') != std::string::npos)
            continue;
        CAPTURE(path);
        const auto found = defaults.find(path);
        // Of a struct that is missing by default every field that came later is 0.
        CHECK(value == (found == defaults.end() ? "0" : found->second));
    }
}

} // namespace

TEST_CASE("frozen versions: what each of them wrote is read with every value, and what came later "
          "has its default") {
    for (unsigned version = oldest_protocol_version; version <= protocol_version; ++version) {
        CAPTURE(version);
        for (const auto& frozen : read_vectors(version)) {
            CAPTURE(frozen.name);
            if (frozen.name == "packed_ranks") {
                const auto ranks =
                    unpack_ranks(frozen.bytes, bytes_max, static_cast<std::uint16_t>(version));
                REQUIRE_MESSAGE(ranks, describe(ranks.error()));
                check_fields(frozen, field_list::of(*ranks), {});
                continue;
            }
            const auto message = decode(frozen.bytes, bytes_max);
            REQUIRE_MESSAGE(message, describe(message.error()));
            CHECK(name_of(*message) == frozen.name);
            std::visit(
                [&](const auto& x) { check_fields(frozen, field_list::of(x), defaults_of(x)); },
                *message);
        }
    }
}

TEST_CASE("frozen versions: the own one, and those before structs could grow, are written as they "
          "were") {
    for (unsigned version = oldest_protocol_version; version <= protocol_version; ++version) {
        if (version >= growing_version && version != protocol_version)
            continue;
        CAPTURE(version);
        std::set<std::string> seen;
        std::map<std::string, vector> newest; // structs of the own version have grown since
        for (auto& frozen : read_vectors(version))
            newest[frozen.name] = std::move(frozen);
        for (const auto& [name, frozen] : newest) {
            CAPTURE(name);
            seen.insert(name);
            const auto number = static_cast<std::uint16_t>(version);
            const auto again =
                frozen.name == "packed_ranks"
                    ? pack_ranks(*unpack_ranks(frozen.bytes, bytes_max, number), bytes_max, number)
                    : encode(*decode(frozen.bytes, bytes_max), bytes_max);
            REQUIRE(again);
            CHECK(*again == frozen.bytes);
        }
        if (version == protocol_version) // a new message needs a new version, hence a new file
            CHECK(seen.size() == message_types + 1);
    }
}

TEST_CASE("frozen versions: one that is no longer understood is refused by name") {
    std::size_t files = 0;
    for (unsigned version = 6; version < 100; ++version) {
        if (!std::filesystem::exists(file_of(version)))
            continue;
        ++files;
        for (const auto& frozen : read_vectors(version)) {
            if (frozen.name == "packed_ranks")
                continue;
            const auto newest = static_cast<std::uint16_t>(version - 1); // a release that lacks it
            const auto refused = decode(frozen.bytes, bytes_max, newest);
            REQUIRE_FALSE(refused);
            CHECK(code_of(refused.error()) == errc::protocol_mismatch);
            CHECK(text_of(refused.error()).find("version " + std::to_string(version))
                  != std::string::npos);
            if (version < oldest_protocol_version)
                CHECK(code_of(decode(frozen.bytes, bytes_max).error()) == errc::protocol_mismatch);
        }
    }
    CHECK(files >= 2);
}
