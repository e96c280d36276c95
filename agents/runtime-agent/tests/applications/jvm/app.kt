package plimsoll.kotlin

import kotlin.time.Duration.Companion.seconds

data class Named(val name: String)

fun main() {
    val names = sequence { yield(Named("a")); yield(Named("b")) }.map { it.copy(name = it.name.uppercase()) }
    println(names.joinToString { it.name } + " " + 3.seconds)
}
