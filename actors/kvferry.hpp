// SPDX-License-Identifier: Apache-2.0
// Everything that a host includes: a rank and its sessions, the calls of an executor loop, and
// helpers for cache memory, page tables and logs.
#pragma once

#include "actors/host/configure.hpp"
#include "actors/host/runtime.hpp"
#include "actors/host/session.hpp"
#include "actors/host/transceiver.hpp"
#include "actors/host/worker.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/request_id.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
