// SPDX-License-Identifier: Apache-2.0
// A file that gzip packs while it is written.
#pragma once

#include <memory>
#include <ostream>
#include <string>

namespace kvferry::tools {

/// Runs the program gzip, which every Debian has. A file that cannot be written shows in close().
class packed_file {
public:
    explicit packed_file(const std::string& path);
    ~packed_file();
    packed_file(const packed_file&) = delete;
    packed_file& operator=(const packed_file&) = delete;

    std::ostream& stream();
    /// Waits for gzip; false when anything failed.
    bool close();

private:
    struct parts;
    std::unique_ptr<parts> parts_;
};

} // namespace kvferry::tools
