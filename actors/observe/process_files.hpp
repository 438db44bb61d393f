// SPDX-License-Identifier: Apache-2.0
// Names of the files and sockets that a process leaves for people to look at, and folders for them
// that nobody else can enter.
#pragma once

#include "messages/errors.hpp"

#include <string>

namespace kvferry {

/// How often the rings of events are read while somebody listens, in ms: before they are full.
inline constexpr int trace_collect_ms = 5;

/// "<name>-<process id>.<mark>", a slash of the name as a dash. The mark is drawn once per process:
/// processes of two containers may have the same name and id, and share a folder.
std::string process_file_name(const std::string& name);

/// Makes the folder if it is missing. invalid_argument unless it is a folder of this user, not a
/// link to one, that nobody else may enter; names `variable`, which can name another.
caf::error make_private_folder(const std::string& folder, const char* variable);

} // namespace kvferry
