// SPDX-License-Identifier: Apache-2.0
// A pipe to gzip, whose standard output is the file.
#include "tools/common/packed_file.hpp"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <spawn.h>
#include <streambuf>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

extern char** environ;

namespace kvferry::tools {

/// Bytes for a descriptor; a failed write ends the stream.
class descriptor_buffer final : public std::streambuf {
public:
    explicit descriptor_buffer(int to) : to_(to), bytes_(std::size_t{1} << 18) {
        setp(bytes_.data(), bytes_.data() + bytes_.size());
    }

protected:
    int_type overflow(int_type next) override {
        if (sync() != 0)
            return traits_type::eof();
        if (!traits_type::eq_int_type(next, traits_type::eof()))
            sputc(traits_type::to_char_type(next));
        return traits_type::not_eof(next);
    }

    int sync() override {
        for (const char* at = pbase(); at < pptr();) {
            const auto count = ::write(to_, at, static_cast<std::size_t>(pptr() - at));
            if (count < 0 && errno != EINTR)
                return -1;
            at += count > 0 ? count : 0;
        }
        setp(bytes_.data(), bytes_.data() + bytes_.size());
        return 0;
    }

private:
    int to_;
    std::vector<char> bytes_;
};

struct packed_file::parts {
    int pipe = -1;
    pid_t gzip = -1;
    descriptor_buffer buffer;
    std::ostream stream;

    parts(int to, pid_t process) : pipe(to), gzip(process), buffer(to), stream(&buffer) {
        if (process < 0)
            stream.setstate(std::ios::badbit);
    }
};

packed_file::packed_file(const std::string& path) {
    std::signal(SIGPIPE, SIG_IGN); // a gzip that ended shows as a failed write
    int ends[2] = {-1, -1};
    pid_t process = -1;
    if (::pipe2(ends, O_CLOEXEC) == 0) {
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
        ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, path.c_str(),
                                           O_WRONLY | O_CREAT | O_TRUNC, 0644);
        char name[] = "gzip";
        char flags[] = "-c";
        char* arguments[] = {name, flags, nullptr};
        if (::posix_spawnp(&process, name, &actions, nullptr, arguments, environ) != 0)
            process = -1;
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[0]);
    }
    parts_ = std::make_unique<parts>(ends[1], process);
}

packed_file::~packed_file() {
    close();
}

std::ostream& packed_file::stream() {
    return parts_->stream;
}

bool packed_file::close() {
    auto& x = *parts_;
    x.stream.flush();
    if (x.pipe >= 0)
        ::close(std::exchange(x.pipe, -1));
    int status = 0;
    if (x.gzip > 0 && ::waitpid(std::exchange(x.gzip, -1), &status, 0) > 0 && status != 0)
        x.stream.setstate(std::ios::badbit);
    return x.stream.good();
}

} // namespace kvferry::tools
