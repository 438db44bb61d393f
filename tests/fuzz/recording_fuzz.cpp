// SPDX-License-Identifier: Apache-2.0
// Recorded files, and every analysis of them. An input is the file itself. If its first byte is not
// that of a file, it holds the payloads of blocks, and this adds matching block heads (a fuzzer
// cannot guess checksums).
#include "messages/trace/trace_format.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/tools/trace/perfetto_json.hpp"
#include "tools/trace/check.hpp"
#include "tools/trace/live/why.hpp"
#include "tools/trace/pictures/page.hpp"
#include "tools/trace/pictures/pictures.hpp"
#include "tools/trace/stats.hpp"

#include <utility>
#include <vector>

using namespace kvferry;

namespace {

template <class Number>
void put(std::vector<std::byte>& to, Number x) {
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        to.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(x) >> (8 * i)));
}

/// Blocks of kind, one byte of length, payload.
std::vector<std::byte> framed(fuzz::reader input) {
    std::vector<std::byte> file;
    for (char x : trace::recording_magic)
        file.push_back(static_cast<std::byte>(x));
    put(file, trace::recording_version);
    while (!input.empty()) {
        const auto kind = input.number<std::uint8_t>();
        const auto payload = input.bytes(input.number<std::uint8_t>());
        const auto* data = reinterpret_cast<const std::byte*>(payload.data());
        put(file, kind);
        put(file, static_cast<std::uint32_t>(payload.size()));
        put(file, trace::checksum(kind, data, payload.size()));
        file.insert(file.end(), data, data + payload.size());
    }
    return file;
}

void ask_everything(std::vector<tracing::recording> recordings) {
    const auto run = tracing::join(std::move(recordings));
    (void)tracing::check(run);
    (void)tracing::statistics_of(run);
    (void)tracing::page_of(run);
    fuzz::require(tracing::problems_of_perfetto(tracing::perfetto_json(run)).empty(),
                  "a Perfetto file follows the format");
    for (std::size_t i = 0; i < run.steps.size() && i < 4; ++i) {
        (void)tracing::waits_of(run, run.steps[i].rid);
        (void)tracing::sequence_text(run, run.steps[i].rid);
        (void)tracing::event_lines(run, run.steps[i].rid);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    const bool whole = bytes > 0 && data[0] == static_cast<std::uint8_t>(trace::recording_magic[0]);
    const auto file = whole
                          ? std::vector<std::byte>(reinterpret_cast<const std::byte*>(data),
                                                   reinterpret_cast<const std::byte*>(data) + bytes)
                          : framed({data, bytes});
    auto read = tracing::read_recording(file, "fuzz.kvtrace");
    if (read)
        ask_everything({std::move(*read)});
    else
        fuzz::require(whole, "a file with the right beginning is read");
    return 0;
}
