// SPDX-License-Identifier: Apache-2.0
// Secrets for tests, and files that hold them.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace kvferry::testing {

inline const std::string secret_one = "11111111111111111111111111111111";
inline const std::string secret_two = "22222222222222222222222222222222";

/// Removed with the object.
class secret_file {
public:
    explicit secret_file(const std::string& text, mode_t mode = 0600) {
        const int fd = ::mkstemp(path_.data());
        REQUIRE(fd >= 0);
        ::close(fd);
        std::ofstream{path_} << text;
        REQUIRE(::chmod(path_.c_str(), mode) == 0);
    }
    secret_file(const secret_file&) = delete;
    ~secret_file() { ::unlink(path_.c_str()); }

    const std::string& path() const { return path_; }

private:
    std::string path_ = "/tmp/kvferry-secret-XXXXXX";
};

} // namespace kvferry::testing
