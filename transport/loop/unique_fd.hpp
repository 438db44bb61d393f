// SPDX-License-Identifier: Apache-2.0
// A file descriptor with exactly one owner.
#pragma once

#include <unistd.h>
#include <utility>

namespace kvferry {

class unique_fd {
public:
    unique_fd() = default;
    explicit unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        other.reset();
        return *this;
    }
    ~unique_fd() { reset(); }

    int get() const noexcept { return fd_; }
    /// Hands ownership to the caller.
    int release() noexcept { return std::exchange(fd_, -1); }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    void reset() noexcept {
        if (fd_ >= 0)
            ::close(std::exchange(fd_, -1));
    }

private:
    int fd_ = -1;
};

} // namespace kvferry
