// SPDX-License-Identifier: Apache-2.0
// Reads and writes until the pipe says "not now".
#include "tools/demo/lines.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kvferry::demo {
namespace {

void set_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        throw std::system_error(errno, std::generic_category(), "fcntl of a pipe");
}

} // namespace

line_reader::line_reader(unique_fd fd) : fd_(std::move(fd)) {
    set_nonblocking(fd_.get());
}

void line_reader::read_available() {
    std::array<char, 65536> buffer;
    while (!ended_) {
        const auto count = ::read(fd_.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN)
            return;
        if (count <= 0) {
            ended_ = true;
            return;
        }
        partial_.append(buffer.data(), static_cast<std::size_t>(count));
        std::size_t begin = 0;
        for (auto end = partial_.find('\n'); end != std::string::npos;
             end = partial_.find('\n', begin)) {
            lines_.push_back(partial_.substr(begin, end - begin));
            begin = end + 1;
        }
        partial_.erase(0, begin);
    }
}

std::optional<std::string> line_reader::next() {
    if (lines_.empty())
        return std::nullopt;
    auto line = std::move(lines_.front());
    lines_.pop_front();
    return line;
}

line_writer::line_writer(unique_fd fd) : fd_(std::move(fd)) {
    set_nonblocking(fd_.get());
}

void line_writer::write(const std::string& text) {
    waiting_ += text;
    flush();
}

void line_writer::flush() {
    std::size_t done = 0;
    while (fd_ && done < waiting_.size()) {
        const auto count = ::write(fd_.get(), waiting_.data() + done, waiting_.size() - done);
        if (count >= 0)
            done += static_cast<std::size_t>(count);
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            fd_.reset(); // the reader has closed
    }
    waiting_.erase(0, fd_ ? done : waiting_.size());
}

void line_writer::close() {
    fd_.reset();
    waiting_.clear();
}

} // namespace kvferry::demo
