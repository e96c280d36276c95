require "thor"
