// SPDX-License-Identifier: Apache-2.0
// Standard error as a sink that shares nothing: those of spdlog write with a lock of stdio and one
// for all consoles in hand. While nobody reads a full pipe, the rest of the process would wait for
// these, and exit() for ever.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <mutex>
#include <string_view>

namespace kvferry {

/// Lines of a terminal have colours.
class stderr_sink final : public spdlog::sinks::base_sink<std::mutex> {
public:
    stderr_sink();

private:
    void sink_it_(const spdlog::details::log_msg&) override;
    void flush_() override {}

    bool colours_;
};

} // namespace kvferry
