// SPDX-License-Identifier: Apache-2.0
// Terminal control of the progress line.
#include "tools/demo/progress_line.hpp"

#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>

namespace kvferry::demo {

progress_line::progress_line(bool enabled) : enabled_(enabled && ::isatty(STDERR_FILENO) == 1) {}

void progress_line::show(const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (!enabled_ || now < next_)
        return;
    next_ = now + std::chrono::milliseconds{100};
    // A line that wraps could not be replaced by the next one.
    winsize size{};
    const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    std::cerr << "\r\033[K" << text.substr(0, known ? size.ws_col - 1u : text.size()) << std::flush;
    shown_ = true;
}

void progress_line::clear() {
    if (shown_)
        std::cerr << "\r\033[K" << std::flush;
    shown_ = false;
    next_ = {};
}

} // namespace kvferry::demo
