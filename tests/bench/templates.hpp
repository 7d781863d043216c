// Calls of a template against a plain fork of a process of the same size.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <nlohmann/json.hpp>

#include "tests/bench/goals.hpp"

namespace bench {

// A row for 1 MiB, 256 MiB and 4 GiB touched, in template and forking process alike.
nlohmann::json templates(const cleanfork::client& client, boost::asio::io_context& io,
                         std::size_t rounds, goals& judged);

}  // namespace bench
